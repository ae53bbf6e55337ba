//! Pictures of a data set with what a detector proposes in them, and their maps.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use hoi_runtime::detector::Detection;
use hoi_runtime::geometry::Size;
use hoi_runtime::vocabulary::Vocabulary;
use tch::{Device, Kind, Tensor};

use super::backbone::PhotoBackbone;
use super::proposer::PhotoProposals;
use crate::dataset::augment::{IMAGENET_MEAN, IMAGENET_STD};
use crate::dataset::loader::{Batch, Target};
use crate::dataset::{AnnotatedPicture, DatasetError, EntityLabel, PictureSet};
use crate::network::clip::{MEAN, ModifiedResNet, STANDARD_DEVIATION};
use crate::system::rmlr::{DetectError, DetectedPicture, FrozenDetector};

/// Pixels of a side of a cell of CLIP's map.
const STRIDE: i64 = 32;

/// A set's pictures whose entities are the proposals. The annotated pairs stay: they say what a picture shows.
pub struct ProposedPictures<'a> {
    set: &'a dyn PictureSet,
    proposals: PhotoProposals<'a>,
    /// Asked for once, when a picture is first opened.
    found: Vec<OnceLock<Vec<Detection>>>,
    capped: AtomicUsize,
}

impl<'a> ProposedPictures<'a> {
    /// The pictures of `set` with `proposals`, which are for all of them in their order.
    pub fn new(set: &'a dyn PictureSet, proposals: PhotoProposals<'a>) -> Self {
        let found = (0..set.len()).map(|_| OnceLock::new()).collect();
        Self { set, proposals, found, capped: AtomicUsize::new(0) }
    }

    /// Pictures that the file of proposals says nothing of.
    pub fn without_line(&self) -> usize {
        self.proposals.without_line().len()
    }

    /// Detections beyond the most that the rule takes, in the pictures opened so far.
    pub fn capped(&self) -> usize {
        self.capped.load(Ordering::Relaxed)
    }

    /// The proposals of a picture that was opened, boxes in its pixels.
    fn detections(&self, index: usize) -> &[Detection] {
        self.found.get(index).and_then(OnceLock::get).map_or(&[], Vec::as_slice)
    }
}

impl PictureSet for ProposedPictures<'_> {
    fn len(&self) -> usize {
        self.set.len()
    }

    fn vocabulary(&self) -> &Vocabulary {
        self.set.vocabulary()
    }

    fn name(&self, index: usize) -> String {
        self.set.name(index)
    }

    fn open(&self, index: usize) -> Result<AnnotatedPicture, DatasetError> {
        let mut picture = self.set.open(index)?;
        let place = &self.found[index];
        if place.get().is_none() {
            let selected = self
                .proposals
                .of(index, &picture.pixels)
                .map_err(|source| DatasetError::Proposals { name: picture.name.clone(), source: Box::new(source) })?;
            if place.set(selected.entities).is_ok() {
                self.capped.fetch_add(selected.capped, Ordering::Relaxed);
            }
        }
        picture.entities =
            self.detections(index).iter().map(|d| EntityLabel { bbox: d.bbox, class: d.class }).collect();
        Ok(picture)
    }
}

/// What makes maps of pictures.
#[derive(Clone, Copy)]
pub enum MapNetwork<'a> {
    /// CLIP's residual network, of any size of picture.
    Clip(&'a ModifiedResNet),
    /// EfficientNet-Lites, of pictures stretched to [`PhotoBackbone::input`].
    Lite(&'a PhotoBackbone),
}

/// Proposals with the map of a network that knows nothing of boxes, in the place of a detector's. Maps keep their gradient. Pictures must
/// be whole: after a crop the proposals are other ones.
pub struct ProposedMaps<'a> {
    /// Pictures with their proposals.
    pub pictures: &'a ProposedPictures<'a>,
    /// The network.
    pub network: MapNetwork<'a>,
    /// Where it is.
    pub device: Device,
}

fn per_channel(list: [f32; 3], device: Device) -> Tensor {
    Tensor::from_slice(&list).view([1, 3, 1, 1]).to_device(device)
}

impl ProposedMaps<'_> {
    /// Maps `[B, C, h, w]`. CLIP's cells are 32 pixels a side, from the upper left; the last ones may lie over filling.
    fn maps(&self, batch: &Batch) -> Tensor {
        let device = self.device;
        let pixels =
            batch.images.to_device(device) * per_channel(IMAGENET_STD, device) + per_channel(IMAGENET_MEAN, device);
        match self.network {
            MapNetwork::Lite(backbone) => backbone.maps_of(&pixels),
            MapNetwork::Clip(network) => {
                let scaled = |list: [f32; 3]| per_channel(list.map(|x| 255.0 * x), device);
                let images = (pixels - scaled(MEAN)) / scaled(STANDARD_DEVIATION);
                let images = images.masked_fill(&batch.padding.to_device(device).unsqueeze(1), 0.0);
                let size = images.size();
                let beyond = |side: i64| (STRIDE - side % STRIDE) % STRIDE;
                network.map(&images.constant_pad_nd([0, beyond(size[3]), 0, beyond(size[2])]))
            }
        }
    }

    /// The own map of picture `i` and the part of the input that it covers.
    fn own(&self, maps: &Tensor, i: i64, target: &Target) -> (Tensor, Size) {
        let map = maps.get(i);
        match self.network {
            MapNetwork::Lite(_) => (map, target.input),
            MapNetwork::Clip(_) => {
                let size = map.size();
                let cells = |pixels: u32, most: i64| ((i64::from(pixels) + STRIDE - 1) / STRIDE).clamp(1, most);
                let (rows, columns) = (cells(target.input.height, size[1]), cells(target.input.width, size[2]));
                let covered = Size::new((columns * STRIDE) as u32, (rows * STRIDE) as u32);
                (map.narrow(1, 0, rows).narrow(2, 0, columns).contiguous(), covered)
            }
        }
    }
}

impl FrozenDetector for ProposedMaps<'_> {
    fn detect(&self, batch: &Batch) -> Result<Vec<DetectedPicture>, DetectError> {
        let maps = self.maps(batch);
        let picture = |(i, target): (i64, &Target)| {
            let proposed = self.pictures.detections(target.index);
            if proposed.len() != target.entities.len() {
                let reason = format!("{} of {} proposals are left", target.entities.len(), proposed.len());
                return Err(DetectError::Detector { name: target.name.clone(), reason });
            }
            let (feature, covered) = self.own(&maps, i, target);
            let entities = target.entities.iter().zip(proposed);
            let entities: Vec<Detection> = entities.map(|(e, d)| Detection { bbox: e.bbox, ..d.clone() }).collect();
            Ok(DetectedPicture {
                number: target.number,
                original: target.original,
                input: target.input,
                feature,
                covered,
                tokens: Tensor::zeros([entities.len() as i64, 0], (Kind::Float, Device::Cpu)),
                entities,
            })
        };
        (0..).zip(&batch.targets).map(picture).collect()
    }

    fn map_channels(&self) -> i64 {
        match self.network {
            MapNetwork::Clip(network) => network.channels(),
            MapNetwork::Lite(backbone) => backbone.channels(),
        }
    }

    fn token_width(&self) -> i64 {
        0
    }
}
