//! RmLR's head in libtorch once more, and random weights.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use hoi_runtime::detector::Detection;
use hoi_runtime::geometry::Size;
use hoi_runtime::pairing::HumanObjectPair;
use hoi_runtime::spatial::{FeatureGrid, SPATIAL_LEN, pair_masks, spatial_encoding};
use hoi_trainer::export::RmlrGraph;
use hoi_trainer::network::transformer::{Activation, EncoderLayer, EncoderLayerConfig, sine_position};
use hoi_trainer::system::rmlr::RoiPooling;
use ndarray::ArrayD;
use tch::nn::{self, Module, VarStore};
use tch::{Device, Kind, Tensor, no_grad};

/// Calls `f` with libtorch's random numbers started at `seed`; they are one sequence for all threads, so one call waits for another.
pub fn seeded<T>(seed: i64, f: impl FnOnce() -> T) -> T {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap();
    tch::manual_seed(seed);
    f()
}

/// Moves norms and biases from where they start (1 and 0), so that none can be left out unnoticed, and makes attention sharp enough
/// for tokens to differ.
pub fn unsettle(store: &VarStore) {
    no_grad(|| {
        for (name, mut tensor) in store.variables().into_iter().collect::<BTreeMap<_, _>>() {
            if name.ends_with("running_var") {
                tensor.copy_(&(tensor.rand_like() + 0.5));
            } else if name.starts_with("transformer") && name.ends_with("in_proj_weight") {
                tensor.copy_(&(&tensor * 4.0));
            } else if tensor.dim() == 1 {
                tensor.copy_(&(&tensor + tensor.randn_like() * 0.2));
            }
        }
    });
}

pub fn tensor(array: &ArrayD<f32>) -> Tensor {
    let shape: Vec<i64> = array.shape().iter().map(|&n| n as i64).collect();
    Tensor::from_slice(array.as_standard_layout().as_slice().unwrap()).view(shape.as_slice())
}

pub fn array(tensor: &Tensor) -> ArrayD<f32> {
    let shape: Vec<usize> = tensor.size().iter().map(|&n| n as usize).collect();
    let flat: Vec<f32> = tensor.contiguous().view([-1]).try_into().unwrap();
    ArrayD::from_shape_vec(shape, flat).unwrap()
}

/// Which parts a head has.
#[derive(Clone, Copy, Debug)]
pub struct Parts {
    pub cue: bool,
    pub context: bool,
    pub spatial: bool,
    pub relation_layers: usize,
    pub reasoning_layers: usize,
}

pub const FULL: Parts = Parts { cue: true, context: true, spatial: false, relation_layers: 2, reasoning_layers: 1 };

/// RmLR's head in libtorch, from the sheet: the four parts side by side, then one layer.
pub struct Reference {
    parts: Parts,
    project: Option<nn::Conv2D>,
    relation: Vec<EncoderLayer>,
    cue: Option<nn::Linear>,
    context: Option<nn::Linear>,
    token: nn::Linear,
    spatial: Vec<nn::Linear>,
    pair: nn::Linear,
    reasoning: Vec<EncoderLayer>,
    verbs: nn::Linear,
}

pub const CHANNELS: i64 = 128;
pub const TOKEN: i64 = 32;

impl Reference {
    pub fn new(parts: Parts) -> (VarStore, Self) {
        seeded(2, || Self::random(parts))
    }

    fn random(parts: Parts) -> (VarStore, Self) {
        let store = VarStore::new(Device::Cpu);
        let root = store.root();
        let linear = |name: &str, inputs, outputs| {
            let path = name.split('.').fold(root.clone(), |path, part| path / part);
            nn::linear(path, inputs, outputs, nn::LinearConfig::default())
        };
        let layers = |name: &str, count: usize, width, activation, norm_eps| {
            let config = EncoderLayerConfig { width, heads: 4, feed_forward: 56, dropout: 0.1, activation, norm_eps };
            (0..count).map(|n| EncoderLayer::new(&(&root / name / "layers" / n), &config)).collect::<Vec<_>>()
        };
        let (d_e, d_m, d_g, d_t, d_s, d_h) = (24, 20, 12, 28, 16, 40);
        let width = 2 * d_t
            + if parts.cue { d_m } else { 0 }
            + if parts.context { d_g } else { 0 }
            + if parts.spatial { d_s } else { 0 };
        let head = Self {
            parts,
            project: parts.cue.then(|| nn::conv2d(&root / "project", CHANNELS, d_e, 1, nn::ConvConfig::default())),
            relation: layers(
                "relation",
                if parts.cue { parts.relation_layers } else { 0 },
                d_e,
                Activation::Relu,
                1e-5,
            ),
            cue: parts.cue.then(|| linear("cue", d_e, d_m)),
            context: parts.context.then(|| linear("context", CHANNELS, d_g)),
            token: linear("token", TOKEN, d_t),
            spatial: if parts.spatial {
                vec![linear("spatial.0", 36, 8), linear("spatial.2", 8, 12), linear("spatial.4", 12, d_s)]
            } else {
                Vec::new()
            },
            pair: linear("pair", width, d_h),
            reasoning: layers("reasoning", parts.reasoning_layers, d_h, Activation::Gelu, 1e-12),
            verbs: linear("verbs", d_h, 117),
        };
        unsettle(&store);
        (store, head)
    }

    pub fn graph<'a>(&self, tensors: &'a HashMap<String, Tensor>, feature: [usize; 3]) -> RmlrGraph<'a> {
        RmlrGraph {
            tensors,
            feature,
            relation_heads: 4,
            relation_layers: self.relation.len(),
            reasoning_heads: 4,
            reasoning_layers: self.reasoning.len(),
            with_cue: self.parts.cue,
            with_context: self.parts.context,
            with_spatial: self.parts.spatial,
            pooling: RoiPooling::Enclosing,
        }
    }

    /// `[P, V]` from the map, the entities (boxes in a picture of size `picture`) and their tokens `[N, D]`.
    pub fn logits(
        &self,
        feature: &Tensor,
        tokens: &Tensor,
        entities: &[Detection],
        pairs: &[HumanObjectPair],
        picture: Size,
    ) -> ArrayD<f32> {
        let _guard = tch::no_grad_guard();
        let size = feature.size();
        let count = pairs.len() as i64;
        let mut parts = Vec::new();
        if let Some(context) = &self.context {
            parts
                .push(context.forward(&feature.mean_dim(Some(&[2i64, 3][..]), false, None)).expand([count, -1], false));
        }
        let tokens = self.token.forward(tokens).relu();
        for index in [|p: &HumanObjectPair| p.human, |p: &HumanObjectPair| p.object] {
            let rows: Vec<i64> = pairs.iter().map(|p| index(p) as i64).collect();
            parts.push(tokens.index_select(0, &Tensor::from_slice(&rows)));
        }
        if let (Some(project), Some(cue)) = (&self.project, &self.cue) {
            let cells = |map: Tensor| map.flatten(2, 3).transpose(1, 2);
            let mut x = cells(project.forward(feature));
            let padding = Tensor::zeros([1, size[2], size[3]], (Kind::Bool, Device::Cpu));
            let position = cells(sine_position(&padding, x.size()[2] / 2));
            for layer in &self.relation {
                x = layer.forward(&x, Some(&position), None, false);
            }
            let boxes: Vec<_> = pairs.iter().map(|p| (entities[p.human].bbox, entities[p.object].bbox)).collect();
            let grid = FeatureGrid { columns: size[3] as usize, rows: size[2] as usize, picture };
            let masks = tensor(&pair_masks(&boxes, grid).into_dyn());
            parts.push(cue.forward(&masks.matmul(&x.squeeze_dim(0))));
        }
        if self.parts.spatial {
            let rows: Vec<f32> = pairs
                .iter()
                .flat_map(|p| spatial_encoding(&entities[p.human].bbox, &entities[p.object].bbox, picture))
                .collect();
            let x = Tensor::from_slice(&rows).view([-1, SPATIAL_LEN as i64]);
            parts.push(self.spatial.iter().fold(x, |x, layer| layer.forward(&x).relu()));
        }
        let mut x = self.pair.forward(&Tensor::cat(&parts, 1)).unsqueeze(0);
        for layer in &self.reasoning {
            x = layer.forward(&x, None, None, false);
        }
        array(&self.verbs.forward(&x.squeeze_dim(0)))
    }
}
