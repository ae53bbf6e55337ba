//! EfficientNet-Lite: inverted bottlenecks with ReLU6 and without squeeze-and-excitation, for person crops and whole photos.
//!
//! Pictures are RGB, resized to the variant's [resolution](Variant::resolution) on both sides, `(v - 127) / 128` of the 0..255
//! values ([`INPUT_MEAN`], [`INPUT_STD`]). Any other size works too: padding is TensorFlow's "SAME" of the size at hand.
//!
//! Parameters have the names of the PyTorch conversions of Google's checkpoints: `_conv_stem.weight`, `_bn0.*`,
//! `_blocks.3._expand_conv.weight`, `_blocks.3._bn0.*`, `_blocks.3._depthwise_conv.weight`, ..., `_conv_head.weight`, `_bn1.*`,
//! `_fc.*`. Where batch norms are folded, a convolution has a `bias` in their place.
//!
//! ```no_run
//! use hoi_trainer::network::efficientnet_lite::EfficientNetLite;
//! # fn features(pictures: &tch::Tensor) -> Result<(), hoi_trainer::network::efficientnet_lite::LoadError> {
//! let lite = EfficientNetLite::load("efficientnet-lite0.pth".as_ref(), tch::Device::Cpu)?;
//! let features = lite.network.pooled(pictures, false); // [B, 1280]
//! # Ok(())
//! # }
//! ```

mod config;
mod layers;
mod onnx;
mod weights;

pub use config::{BatchNorm, EfficientNetLiteConfig, INPUT_MEAN, INPUT_STD, Variant};
pub(crate) use config::{Convolution, NORM_EPS, same_padding};
pub use layers::{EfficientNetLite, Maps};
pub use weights::{EfficientNetLiteWeights, LoadError, Pretrained, fold_batch_norms};
