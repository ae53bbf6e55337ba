//! Backbones that stand beside the detector: ImageNet networks, frozen, whose maps are read as one.

use std::path::{Path, PathBuf};

use hoi_runtime::bundle::sha256_hex;
use hoi_runtime::geometry::Size;
use hoi_runtime::preprocess::{ColourOrder, InputSpec, ResizeRule, prepare};
use image::RgbImage;
use tch::{Device, Tensor, no_grad};

use crate::network::efficientnet_lite::{EfficientNetLite, INPUT_MEAN, INPUT_STD, LoadError, Pretrained};

/// Pixels of a cell's side.
const STRIDE: u32 = 32;

/// Why backbones cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackboneError {
    /// A file gives no network.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// No file at all.
    #[error("no backbone is named: at least one file of EfficientNet-Lite weights is needed")]
    None,
    /// Maps of several sizes cannot lie side by side.
    #[error("the map of {} is {columns}x{rows}, that of the first backbone {first_columns}x{first_rows}: give all of them one input size", path.display())]
    Grid {
        /// The file.
        path: PathBuf,
        /// Its columns.
        columns: u32,
        /// Its rows.
        rows: u32,
        /// Columns of the first.
        first_columns: u32,
        /// Rows of the first.
        first_rows: u32,
    },
}

struct Reader {
    network: Pretrained,
    input: InputSpec,
}

/// One or more EfficientNet-Lites over the same picture.
pub struct PhotoBackbone {
    readers: Vec<Reader>,
    grid: [u32; 2],
    device: Device,
}

/// What identifies files of weights and an input size, for caches and records.
///
/// # Errors
/// [`BackboneError::Read`].
pub fn backbone_key(files: &[PathBuf], input: Option<Size>) -> Result<String, BackboneError> {
    let mut key = input.map_or_else(|| "own input".to_owned(), |size| size.to_string());
    for path in files {
        let bytes = std::fs::read(path).map_err(|source| BackboneError::Read { path: path.clone(), source })?;
        key.push(' ');
        key.push_str(&sha256_hex(&bytes));
    }
    Ok(key)
}

impl PhotoBackbone {
    /// Loads the networks. Each sees pictures of `input`, or of the size that it was trained on; all maps must have the same cells.
    ///
    /// # Errors
    /// [`BackboneError`] naming the file.
    pub fn load(files: &[PathBuf], input: Option<Size>, device: Device) -> Result<Self, BackboneError> {
        let mut readers = Vec::with_capacity(files.len());
        for path in files {
            readers.push((path, Reader::load(path, input, device)?));
        }
        let Some((_, first)) = readers.first() else { return Err(BackboneError::None) };
        let grid = first.grid();
        if let Some((path, other)) = readers.iter().find(|(_, r)| r.grid() != grid) {
            let ([rows, columns], [first_rows, first_columns]) = (other.grid(), grid);
            return Err(BackboneError::Grid { path: (*path).clone(), columns, rows, first_columns, first_rows });
        }
        Ok(Self { readers: readers.into_iter().map(|(_, reader)| reader).collect(), grid, device })
    }

    /// Rows, columns and channels of the map.
    pub fn feature(&self) -> [usize; 3] {
        let [rows, columns] = self.grid.map(|n| n as usize);
        [rows, columns, self.channels() as usize]
    }

    /// Channels of all networks together.
    pub fn channels(&self) -> i64 {
        self.readers.iter().map(|r| r.network.network.config().head).sum()
    }

    /// The networks' names, as `EfficientNet-Lite2 at 260x260`.
    pub fn names(&self) -> Vec<String> {
        let name = |r: &Reader| format!("EfficientNet-{:?} at {}", r.network.variant, r.input.size());
        self.readers.iter().map(name).collect()
    }

    /// Size of picture that the first network sees.
    pub fn input(&self) -> Size {
        self.readers.first().map_or(Size::new(STRIDE, STRIDE), |r| r.input.size())
    }

    /// Maps `[B, C, h, w]` of pictures `[B, 3, H, W]` of one size, red first, 0 to 255, on the networks' device; no gradient.
    pub fn maps_of(&self, pixels: &Tensor) -> Tensor {
        let images = (pixels - f64::from(INPUT_MEAN)) / f64::from(INPUT_STD);
        let maps = || self.readers.iter().map(|r| r.network.network.map(&images, false)).collect::<Vec<_>>();
        no_grad(|| Tensor::cat(&maps(), 1))
    }

    /// Maps `[B, C, h, w]` of pictures, each stretched to the networks' inputs. Every cell stands for an equal part of the picture.
    pub fn maps(&self, pictures: &[&RgbImage]) -> Tensor {
        // One picture's maps fit into a processor's cache, several do not.
        let together = if self.device == Device::Cpu { 1 } else { pictures.len().max(1) };
        let map = |reader: &Reader| {
            let parts: Vec<Tensor> = pictures
                .chunks(together)
                .map(|part| reader.network.network.map(&reader.input(part).to_device(self.device), false))
                .collect();
            Tensor::cat(&parts, 0)
        };
        no_grad(|| Tensor::cat(&self.readers.iter().map(map).collect::<Vec<_>>(), 1).to_device(Device::Cpu))
    }
}

impl Reader {
    fn load(path: &Path, input: Option<Size>, device: Device) -> Result<Self, BackboneError> {
        let network = EfficientNetLite::load(path, device)?;
        let own = network.variant.resolution();
        let size = input.unwrap_or(Size::new(own, own));
        let input = InputSpec {
            name: "images".to_owned(),
            shape: [1, 3, size.height as usize, size.width as usize],
            colour: ColourOrder::Rgb,
            mean: [INPUT_MEAN; 3],
            std: [INPUT_STD; 3],
            resize: ResizeRule::Stretch {},
        };
        Ok(Self { network, input })
    }

    fn grid(&self) -> [u32; 2] {
        let size = self.input.size();
        [size.height.div_ceil(STRIDE), size.width.div_ceil(STRIDE)]
    }

    fn input(&self, pictures: &[&RgbImage]) -> Tensor {
        let [_, channels, height, width] = self.input.shape.map(|n| n as i64);
        let values: Vec<f32> = pictures.iter().flat_map(|p| prepare(p, &self.input).0.into_iter()).collect();
        let pictures = Tensor::from_slice(&values).view([pictures.len() as i64, channels, height, width]);
        // The same values, with the channels of a pixel side by side: libtorch's convolutions are faster so on a processor.
        pictures.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
    }
}
