"""Networks from checkpoints and exported models, in any engine.

An engine is imported when one of its networks is opened.
"""

import abc
import os
import warnings
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

import cv2
import numpy as np

from inference.config import ONNX_ENGINES, DetectConfig, Size
from utils.errors import PSENetError, first_line
from utils.tf_env import warn_of_missing_gpus
from utils.utils_tool import cfg

if TYPE_CHECKING:
    import tensorflow as tf

# Names of the input and output of every exported model.
INPUT_NAME = 'images'
OUTPUT_NAME = 'score_maps'
# TensorFlow's name for the graph in the directory of a SavedModel.
SAVED_MODEL_GRAPH = 'saved_model.pb'


class Platform(NamedTuple):
    """Device on which TensorFlow runs the network; by default a GPU, or else the CPU.

    gpu_list: requested GPUs; a warning is logged if TensorFlow does not see them.
    session_config: tf.ConfigProto for any other device; None for GPUs and the CPU.
    input_sizes: (width, height) of the inputs for which such a device compiles the network,
        smallest first; empty if the network accepts any size.
    """

    gpu_list: str = ''
    session_config: Any = None
    input_sizes: Tuple[Size, ...] = ()


GPU_OR_CPU = Platform()


def next_size(size: Size, sizes: Sequence[Size]) -> Optional[Size]:
    """Returns the first of the sizes, sorted by area, that holds ``size``; None if none does."""
    return next((one for one in sizes if one[0] >= size[0] and one[1] >= size[1]), None)


def pad_image(image_rgb: np.ndarray, size: Size) -> np.ndarray:
    """Pads an image on the right and at the bottom with its outermost pixels.

    Padding with black, the mean colour or a mirrored image changes the scores near the edge more.

    Args:
        image_rgb: uint8 (H, W, 3), RGB. Unchanged.
        size: (width, height), at least that of the image.

    Returns:
        uint8 (height, width, 3); the image itself if it has this size.
    """
    height, width = image_rgb.shape[:2]
    if (width, height) == size:
        return image_rgb
    return cv2.copyMakeBorder(image_rgb, 0, size[1] - height, 0, size[0] - width,
                              cv2.BORDER_REPLICATE)


class ScoreNetwork(abc.ABC):
    """A network that is ready to run until it is closed.

    Attributes:
        input_sizes: fixed (width, height) of the model's input; empty if any size will do.
    """

    input_sizes: Tuple[Size, ...] = ()

    @abc.abstractmethod
    def score_maps(self, image_rgb: np.ndarray) -> np.ndarray:
        """Runs the network on one image.

        Args:
            image_rgb: uint8 (H, W, 3), RGB, H and W multiples of 32; for fixed input sizes at most
                one of them.

        Returns:
            float32 (H/4, W/4, 6), 0..1, smallest kernel first.

        Raises:
            PSENetError: the device has too little memory for an image of this size.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Releases the network."""


def open_network(config: DetectConfig, platform: Platform = GPU_OR_CPU) -> ScoreNetwork:
    """Opens the network of a configuration.

    Args:
        config: engine, model and checkpoint; other fields are not used.
        platform: device for TensorFlow; the other engines run on the CPU.

    Returns:
        The network; the caller closes it.

    Raises:
        PSENetError: the model or the checkpoint is missing, damaged or of another network, or a
            package is not installed.
    """
    if config.engine in ONNX_ENGINES:
        from inference.onnx_networks import OnnxNetwork, OpenVinoNetwork
        return (OnnxNetwork(config.model) if config.engine == 'onnx' else
                OpenVinoNetwork(config.model, config.precision))
    if config.model:
        return ExportedNetwork(config.model, platform)
    return Network(config.checkpoint_path, platform)


class _SessionNetwork(ScoreNetwork):
    """A network in a TensorFlow graph and session of its own."""

    def __init__(self, platform: Platform):
        """Starts a session and loads the network.

        Args:
            platform: device to run on.

        Raises:
            PSENetError: see ``_load`` of the subclass.
        """
        import tensorflow as tf
        self._graph = tf.Graph()
        self._session = tf.Session(graph=self._graph, config=_session_config(platform))
        try:
            self._load(_is_on_cpu(self._session, platform))
        except BaseException:
            self.close()
            raise

    @abc.abstractmethod
    def _load(self, is_on_cpu: bool) -> None:
        """Loads the graph and its weights into the session.

        Args:
            is_on_cpu: whether the network runs on the CPU only.
        """

    def close(self) -> None:
        """Releases the session."""
        self._session.close()

    def _run(self, score_maps: 'tf.Tensor', images: 'tf.Tensor', image_rgb: np.ndarray,
             ) -> np.ndarray:
        """Returns the score maps of one image, (H, W, 3); PSENetError if memory runs out."""
        import tensorflow as tf
        try:
            return self._session.run(score_maps, {images: image_rgb[np.newaxis]})[0]
        except tf.errors.ResourceExhaustedError:
            raise too_little_memory(image_rgb.shape) from None


def _session_config(platform: Platform) -> 'tf.ConfigProto':
    import tensorflow as tf
    if platform.session_config is not None:
        return platform.session_config
    config = tf.ConfigProto(allow_soft_placement=True)
    config.gpu_options.allow_growth = True
    return config


def _is_on_cpu(session: 'tf.Session', platform: Platform) -> bool:
    """Returns True if only the CPU is used; logs a warning if GPUs were requested."""
    if platform.session_config is not None:
        return False
    types = [device.device_type for device in session.list_devices()]
    warn_of_missing_gpus(platform.gpu_list, types)
    return 'GPU' not in types


class Network(_SessionNetwork):
    """The network built from this project's code, with the weights of a checkpoint."""

    def __init__(self, checkpoint_path: str, platform: Platform = GPU_OR_CPU):
        """Builds the network and loads its weights.

        Args:
            checkpoint_path: a directory, a prefix, or one of a checkpoint's files.
            platform: device to run on.

        Raises:
            PSENetError: the checkpoint is missing, damaged or of another network.
        """
        from training.checkpoints import resolve_checkpoint
        self._prefix = resolve_checkpoint(checkpoint_path)
        self._sizes = platform.input_sizes
        # Size -> input and output; networks of fixed size are built on demand.
        self._built: Dict[Optional[Size], Tuple[tf.Tensor, tf.Tensor]] = {}
        super().__init__(platform)

    def _load(self, is_on_cpu: bool) -> None:
        from training.checkpoints import backbone_of, restore_for_inference
        self._upsample_last = is_on_cpu
        self._backbone = backbone_of(self._prefix)
        self._endpoints(self._sizes[0] if self._sizes else None)
        restore_for_inference(self._session, self._prefix)

    def score_maps(self, image_rgb: np.ndarray) -> np.ndarray:
        """See ScoreNetwork."""
        height, width = image_rgb.shape[:2]
        size = next_size((width, height), self._sizes) if self._sizes else None
        images, score_maps = self._endpoints(size)
        found = self._run(score_maps, images, pad_image(image_rgb, size or (width, height)))
        return found[:height // cfg.STRIDE, :width // cfg.STRIDE]

    def _endpoints(self, size: Optional[Size]) -> Tuple['tf.Tensor', 'tf.Tensor']:
        """Returns the network's input and output for a size; all sizes share the variables."""
        import tensorflow as tf

        from nets import model
        if size not in self._built:
            width, height = size or (None, None)
            batch = 1 if size else None
            with self._graph.as_default(), tf.variable_scope('', reuse=tf.AUTO_REUSE):
                images = tf.placeholder(tf.uint8, [batch, height, width, 3], name='input_images')
                # upsample_last saves a quarter of the time on a CPU; docs/performance.md lists what
                # does not help there (frozen weights, folded batch norm, other numbers of threads).
                # GPUs were not measured; an NPU runs the network as in training.
                score_maps = model.model(tf.to_float(images), is_training=False,
                                         backbone=self._backbone,
                                         upsample_last=self._upsample_last)
            self._built[size] = images, score_maps
        return self._built[size]


class ExportedNetwork(_SessionNetwork):
    """A frozen graph or a SavedModel, without a checkpoint."""

    def __init__(self, model: str, platform: Platform = GPU_OR_CPU):
        """Loads the model.

        Args:
            model: a frozen graph, or the directory of a SavedModel.
            platform: device to run on.

        Raises:
            PSENetError: it is missing, damaged or of another network.
        """
        graph_file(model)
        self._model = model
        super().__init__(platform)

    def _load(self, is_on_cpu: bool) -> None:
        is_saved_model = os.path.isdir(self._model)
        from google.protobuf.message import DecodeError

        from training.checkpoints import READ_ERRORS
        try:
            load = _load_saved_model if is_saved_model else _load_frozen_graph
            names = load(self._session, self._model)
        except (DecodeError, *READ_ERRORS) as error:
            raise damaged_model(self._model, 'SavedModel' if is_saved_model else 'frozen graph',
                                first_line(error)) from None
        self._images, self._score_maps = _endpoints(self._session, self._model, names)
        self.input_sizes = fixed_size(self._images.shape.as_list())

    def score_maps(self, image_rgb: np.ndarray) -> np.ndarray:
        """See ScoreNetwork."""
        return padded(self.input_sizes, image_rgb, lambda image: self._run(
            self._score_maps, self._images, image.astype(self._images.dtype.as_numpy_dtype)))


def fixed_size(shape: Sequence[Any]) -> Tuple[Size, ...]:
    """Returns the fixed (width, height) of an input (N, H, W, C); empty if it is variable."""
    _, height, width, _ = shape
    return ((width, height),) if isinstance(height, int) and isinstance(width, int) else ()


def padded(sizes: Sequence[Size], image_rgb: np.ndarray,
           run: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Runs a network on an image padded to its fixed size; returns the maps without padding."""
    if not sizes:
        return run(image_rgb)
    height, width = image_rgb.shape[:2]
    return run(pad_image(image_rgb, sizes[0]))[:height // cfg.STRIDE, :width // cfg.STRIDE]


def _load_frozen_graph(session: 'tf.Session', model: str) -> Tuple[str, str]:
    """Loads a frozen graph; returns the names of its input and output tensors."""
    import tensorflow as tf
    graph_def = tf.GraphDef()
    with open(model, 'rb') as file, warnings.catch_warnings():
        # Some other files parse with a mere warning; they lack the tensors.
        warnings.simplefilter('ignore', RuntimeWarning)
        graph_def.ParseFromString(file.read())
    with session.graph.as_default():
        tf.import_graph_def(graph_def, name='')
    return f'{INPUT_NAME}:0', f'{OUTPUT_NAME}:0'


def _load_saved_model(session: 'tf.Session', model: str) -> Tuple[str, str]:
    """Loads a SavedModel; returns the names of its input and output tensors."""
    import tensorflow as tf
    with session.graph.as_default():
        loaded = tf.saved_model.load(session, [tf.saved_model.tag_constants.SERVING], model)
    signature = loaded.signature_def[tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY]
    return signature.inputs[INPUT_NAME].name, signature.outputs[OUTPUT_NAME].name


def _endpoints(session: 'tf.Session', model: str, names: Tuple[str, str]) -> List['tf.Tensor']:
    """Returns the input and output tensors, checked to be those of this network."""
    tensors = []
    for label, name, depth in zip((INPUT_NAME, OUTPUT_NAME), names, (3, cfg.NUM_KERNELS)):
        try:
            tensors.append(session.graph.get_tensor_by_name(name))
        except (KeyError, ValueError):
            raise other_model(model, f'tensor {label}') from None
        if tensors[-1].shape.ndims != 4 or tensors[-1].shape[3].value != depth:
            raise other_model(model, f'{label} with {depth} channels')
    return tensors


def graph_file(model: str) -> str:
    """Finds the file with the graph and weights of an exported model.

    Args:
        model: an .onnx file, a frozen graph, or the directory of a SavedModel.

    Returns:
        Path of the file.

    Raises:
        PSENetError: the file does not exist.
    """
    if not os.path.exists(model):
        raise PSENetError(f'--model={model} does not exist; tools.export makes a model from a '
                          'checkpoint')
    path = os.path.join(model, SAVED_MODEL_GRAPH) if os.path.isdir(model) else model
    if not os.path.isfile(path):
        raise PSENetError(f'the directory --model={model} has no {SAVED_MODEL_GRAPH}; give the '
                          'directory of a SavedModel, a frozen graph (.pb) or an .onnx file')
    return path


def other_model(model: str, lacking: str) -> PSENetError:
    """Returns the error for a model of another network."""
    return PSENetError(f'--model={model} is not a PSENet model from tools.export: it has no '
                       f'{lacking}')


def damaged_model(model: str, kind: str, detail: str) -> PSENetError:
    """Returns the error for a damaged file, or one of another kind."""
    return PSENetError(f'--model={model} is damaged or not a valid {kind} ({detail}); export it '
                       'again with tools.export')


def too_little_memory(image_shape: Tuple[int, ...]) -> PSENetError:
    """Returns the error for an image (H, W, 3) that does not fit into memory."""
    height, width = image_shape[:2]
    return PSENetError(f'not enough memory for an image of {width}x{height} pixels; lower '
                       '--max_side_len')
