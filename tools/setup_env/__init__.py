"""Makes the environment .venv: its Python, the required packages, TensorFlow, the pse extension.

``tools/setup_env.sh`` runs this with the interpreter that .venv is made from, before any package is
there, so only the standard library is imported.

Where the interpreter has TensorFlow 1.15 (containers for NVIDIA GPUs and Ascend NPUs), .venv shares
its packages and adds only those that are missing.
"""
