//! Photos, read up to the blocks that are tuned.

use std::path::Path;

use hoi_runtime::geometry::BBox;
use hoi_runtime::preprocess::{ColourOrder, InputSpec, ResizeRule, prepare};
use hoi_runtime::spatial::FeatureGrid;
use image::RgbImage;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor, no_grad};

use super::super::network::VIEWS;
use super::super::photo::{Seen, View, grid_of, person_masks};
use super::{TuneError, check_blocks};
use crate::network::efficientnet_lite::{EfficientNetLite, INPUT_MEAN, INPUT_STD};

/// A photo in one view, read up to the blocks that are tuned.
#[derive(Debug)]
pub struct TuneLook {
    /// Mean roots of the map that is not tuned, over the person's box, the upper half of it and the picture: `[3, C]`, f16.
    pub early: Tensor,
    /// What the first tuned block takes, `[C, h, w]`, f16.
    pub map: Tensor,
    /// Shares of the cells in the person's box, the upper half of it and the picture: `[3, h w]`.
    pub masks: Tensor,
}

/// The part of the network that is not tuned, which reads photos.
#[derive(Debug)]
pub struct TuneReader {
    network: EfficientNetLite,
    _store: VarStore,
    blocks: usize,
    through: InputSpec,
    side: usize,
}

impl TuneReader {
    /// Loads a network that sees the picture at `side` x `side` pixels, as it is resized from a detector's input of `height` x `width`.
    ///
    /// # Errors
    /// [`TuneError`].
    pub fn load(file: &Path, blocks: usize, [height, width]: [usize; 2], side: usize) -> Result<Self, TuneError> {
        let loaded = EfficientNetLite::load(file, Device::Cpu)?;
        check_blocks(&loaded.network, blocks)?;
        let through = InputSpec {
            name: "images".to_owned(),
            shape: [1, 3, height, width],
            colour: ColourOrder::Rgb,
            mean: [INPUT_MEAN; 3],
            std: [INPUT_STD; 3],
            resize: ResizeRule::Stretch {},
        };
        Ok(Self { network: loaded.network, _store: loaded.store, blocks, through, side })
    }

    /// Reads photo `number` with this person in a view.
    ///
    /// # Errors
    /// [`TuneError::Side`].
    pub fn read(&self, number: u64, pixels: &RgbImage, person: &BBox, view: View) -> Result<TuneLook, TuneError> {
        let (seen, person) = Seen::with_person(pixels, person, view, number);
        let (input, _) = prepare(&seen.pixels, &self.through);
        let side = self.side as i64;
        let values: Vec<f32> = input.iter().copied().collect();
        let shape = self.through.shape.map(|n| n as i64);
        let [halving, map] = no_grad(|| {
            let mut images = Tensor::from_slice(&values).view(shape);
            if shape[2..] != [side; 2] {
                images = images.upsample_bilinear2d([side; 2], false, None, None);
            }
            self.network.before_late(&images, self.blocks)
        });
        let cells = |t: &Tensor| [t.size()[2] as usize, t.size()[3] as usize];
        let wrong = |reason| TuneError::Side { side: self.side, reason };
        let (rows, columns, factors) = grid_of(&[cells(&halving), cells(&map)]).map_err(wrong)?;
        let grid = FeatureGrid { columns, rows, picture: seen.size() };
        let masks: Vec<f32> = person_masks(&person, grid).iter().copied().collect();
        let masks = Tensor::from_slice(&masks).view([VIEWS as i64, -1]);
        let factor = factors[0] as i64;
        let roots = halving.sqrt().avg_pool2d([factor; 2], [factor; 2], 0, false, true, None::<i64>);
        let early = masks.matmul(&roots.squeeze_dim(0).flatten(1, 2).transpose(0, 1));
        Ok(TuneLook { early: early.to_kind(Kind::Half), map: map.squeeze_dim(0).to_kind(Kind::Half), masks })
    }
}
