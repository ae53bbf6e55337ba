//! CLIP's vision transformer.

use tch::Tensor;
use tch::nn::{self, Init, LayerNorm, Module};

use super::attention_pool::resized_positions;
use super::blocks::Blocks;
use super::config::VisionTransformerConfig;
use crate::network::init::layer_norm;

/// A vision transformer over patches, whose feature is that of an extra class token.
///
/// Keys as OpenAI's, without `visual.`: `conv1.weight`, `class_embedding`, `positional_embedding`, `ln_pre.*`,
/// `transformer.resblocks.0.*`, ..., `ln_post.*`, `proj`.
#[derive(Debug)]
pub struct VisionTransformer {
    patches: Tensor,
    class: Tensor,
    positions: Tensor,
    norms: [LayerNorm; 2],
    blocks: Blocks,
    projection: Tensor,
    patch: i64,
    grid: i64,
}

impl VisionTransformer {
    /// A network under `path`, for a configuration that passes [`VisionTransformerConfig::check`].
    pub fn new(path: &nn::Path, config: &VisionTransformerConfig) -> Self {
        let VisionTransformerConfig { ref blocks, patch, grid, output } = *config;
        let width = blocks.width;
        let normal = || Init::Randn { mean: 0.0, stdev: (width as f64).powf(-0.5) };
        Self {
            patches: (path / "conv1").var("weight", &[width, 3, patch, patch], normal()),
            class: path.var("class_embedding", &[width], normal()),
            positions: path.var("positional_embedding", &[grid * grid + 1, width], normal()),
            norms: ["ln_pre", "ln_post"].map(|name| layer_norm(&(path / name), width, blocks.norm_eps)),
            blocks: Blocks::new(path, blocks),
            projection: path.var("proj", &[width, output], normal()),
            patch,
            grid,
        }
    }

    /// Pictures `[B, 3, H, W]`, normalised (C7), to their features `[B, D]`. H and W of at least a patch; pixels beyond the last
    /// whole patch are not seen. The position table is resampled bicubically where the patches are not its grid (7 x 7 at 224 x 224
    /// in ViT-B/32).
    pub fn forward(&self, images: &Tensor) -> Tensor {
        let patches = images.conv2d(&self.patches, None::<&Tensor>, self.patch, 0, 1, 1);
        let size = patches.size();
        let patches = patches.flatten(2, 3).transpose(1, 2);
        let class = self.class.expand([size[0], 1, -1], false);
        let tokens =
            Tensor::cat(&[class, patches], 1) + resized_positions(&self.positions, self.grid, [size[2], size[3]]);
        let tokens = self.blocks.forward(self.norms[0].forward(&tokens), false);
        self.norms[1].forward(&tokens.select(1, 0)).matmul(&self.projection)
    }
}
