//! How parameters start.

use tch::nn::{self, Init};

/// Glorot and Bengio's uniform distribution, for a matrix of these sizes: bound sqrt(6 / (in + out)).
pub fn xavier_uniform(inputs: i64, outputs: i64) -> Init {
    let bound = (6.0 / (inputs + outputs) as f64).sqrt();
    Init::Uniform { lo: -bound, up: bound }
}

/// PyTorch's start of the weights and biases of linear layers and convolutions: uniform, bound 1 / sqrt(fan in).
pub fn fan_in_uniform(fan_in: i64) -> Init {
    let bound = 1.0 / (fan_in as f64).sqrt();
    Init::Uniform { lo: -bound, up: bound }
}

/// A linear layer (`weight` `[outputs, inputs]`, `bias`) that starts as PyTorch's.
pub fn linear(path: &nn::Path, inputs: i64, outputs: i64) -> nn::Linear {
    linear_from(path, inputs, outputs, fan_in_uniform(inputs), fan_in_uniform(inputs))
}

/// A linear layer whose matrix starts with [`xavier_uniform`]; its bias starts as PyTorch's.
pub fn xavier_linear(path: &nn::Path, inputs: i64, outputs: i64) -> nn::Linear {
    linear_from(path, inputs, outputs, xavier_uniform(inputs, outputs), fan_in_uniform(inputs))
}

/// A linear layer that starts as said.
pub fn linear_from(path: &nn::Path, inputs: i64, outputs: i64, weight: Init, bias: Init) -> nn::Linear {
    nn::linear(path, inputs, outputs, nn::LinearConfig { ws_init: weight, bs_init: Some(bias), bias: true })
}

/// A layer norm over the last axis.
pub fn layer_norm(path: &nn::Path, width: i64, eps: f64) -> nn::LayerNorm {
    nn::layer_norm(path, vec![width], nn::LayerNormConfig { eps, ..Default::default() })
}

/// A 1x1 convolution with bias that starts as PyTorch's.
pub fn pointwise(path: &nn::Path, inputs: i64, outputs: i64) -> nn::Conv2D {
    let config =
        nn::ConvConfig { ws_init: fan_in_uniform(inputs), bs_init: fan_in_uniform(inputs), ..Default::default() };
    nn::conv2d(path, inputs, outputs, 1, config)
}
