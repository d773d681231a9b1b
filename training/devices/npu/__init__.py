"""Training on Ascend NPUs through the TensorFlow adapter of CANN; nothing else imports it."""
