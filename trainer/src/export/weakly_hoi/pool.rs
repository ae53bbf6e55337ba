//! One pooling for the whole map, boxes and unions.

use hoi_quantize::onnx::{attr_int, attr_ints};
use tch::{Device, Kind, Tensor};

use super::WeaklyGraph;
use crate::export::layers::NetworkGraph;
use crate::export::weights::{ANY, ExportError};
use crate::network::clip::resized_positions;
use crate::system::weakly_hoi::Pooling;

/// Shares below this are as good as none: their cells get a weight of 1e-30.
const LEAST_SHARE: f32 = 1e-30;

/// What the poolings of one map have in common.
pub(super) enum Pool {
    /// Keys of the cells, `[heads, C / heads, h * w]`, and values, `[heads, h * w, C / heads]`.
    Attention { keys: String, values: String },
    /// Features of the cells, `[h * w, D]`: a mean of features is the feature of the mean.
    Mean { features: String },
}

/// A linear layer over standardised rows `x` `[K, inputs]`, as one linear layer: `(x - centre) / spread` goes into weight and bias.
pub(super) fn projection(
    graph: &mut NetworkGraph,
    x: &str,
    key: &str,
    inputs: i64,
    name: &str,
) -> Result<String, ExportError> {
    let take = |part: &str, shape: &[i64]| graph.weights.take(&format!("{key}.{part}"), shape);
    let (centre, spread) = (take("centre", &[inputs])?, take("spread", &[inputs])?);
    let weight = take("c_proj.weight", &[ANY, inputs])?;
    let bias = take("c_proj.bias", &[weight.size()[0]])?;
    let scaled = weight / spread;
    let shift = bias - scaled.matmul(&centre);
    let scaled = graph.constant(&format!("{key}.scaled"), &scaled.transpose(0, 1).contiguous())?;
    let shift = graph.constant(&format!("{key}.shift"), &shift)?;
    let product = graph.op("MatMul", &[x, &scaled], &format!("{name}.product"), vec![]);
    Ok(graph.op("Add", &[&product, &shift], name, vec![]))
}

impl WeaklyGraph<'_> {
    /// What the poolings of the map have in common.
    pub(super) fn pool(&self, graph: &mut NetworkGraph) -> Result<Pool, ExportError> {
        let [rows, columns, channels] = self.feature.map(|n| n as i64);
        let (cells, heads) = (rows * columns, self.shape.pool_heads);
        let flat = graph.reshape("feature", &[channels, cells], "cells.flat");
        let flat = graph.transpose(&flat, &[1, 0], "cells");
        if self.pooling == Pooling::Mean {
            return Ok(Pool::Mean { features: projection(graph, &flat, "pool", channels, "cells.feature")? });
        }
        let grid = self.shape.pool_grid;
        let table = graph.weights.take("pool.positional_embedding", &[1 + grid * grid, channels])?;
        let table = resized_positions(&table, grid, [rows, columns]);
        let codes = graph.constant("pool.positions", &table.narrow(0, 1, cells))?;
        graph.constant("pool.position", &table.narrow(0, 0, 1))?;
        let placed = graph.op("Add", &[&flat, &codes], "cells.placed", vec![]);
        let mut split = |part: &str, order: &[i64]| -> Result<String, ExportError> {
            let x = graph.linear(&placed, &format!("pool.{part}"), channels, &format!("cells.{part}"))?;
            let x = graph.reshape(&x, &[0, heads, channels / heads], &format!("cells.{part}.split"));
            Ok(graph.transpose(&x, order, &format!("cells.{part}.heads")))
        };
        Ok(Pool::Attention { keys: split("k_proj", &[1, 2, 0])?, values: split("v_proj", &[1, 0, 2])? })
    }

    /// Mean `[1, width]` of all rows `x` `[h * w, width]`.
    pub(super) fn mean_of_all(&self, graph: &mut NetworkGraph, x: &str, name: &str) -> Result<String, ExportError> {
        let cells = (self.feature[0] * self.feature[1]) as i64;
        let each = Tensor::full([1, cells], 1.0 / cells as f64, (Kind::Float, Device::Cpu));
        let each = graph.constant("cells.each", &each)?;
        Ok(graph.op("MatMul", &[&each, x], name, vec![]))
    }

    /// Means `[K, width]` of rows `x` `[h * w, width]`, weighted with the shares; that of the whole map for a part that sees nothing.
    fn mean(
        &self,
        graph: &mut NetworkGraph,
        x: &str,
        masks: &str,
        name: &str,
        what: &str,
    ) -> Result<String, ExportError> {
        let cells = (self.feature[0] * self.feature[1]) as i64;
        let part = |what: &str| format!("{name}.{what}");
        let whole = self.mean_of_all(graph, x, &part("whole"))?;
        let ones = graph.constant("cells.ones", &Tensor::ones([cells, 1], (Kind::Float, Device::Cpu)))?;
        let sum = graph.op("MatMul", &[masks, &ones], &part("sum"), vec![]);
        let one = graph.scalar("one", 1.0);
        let missing = graph.op("Sub", &[&one, &sum], &part("missing"), vec![]);
        let rest = graph.op("Mul", &[&missing, &whole], &part("rest"), vec![]);
        let seen = graph.op("MatMul", &[masks, x], &part("seen"), vec![]);
        Ok(graph.op("Add", &[&seen, &rest], &part(what), vec![]))
    }

    /// Features `[K, D]` of the parts whose shares of the cells are `masks` `[K, h * w]`, each row's sum 1, or 0 where it sees nothing.
    pub(super) fn pooled(
        &self,
        graph: &mut NetworkGraph,
        pool: &Pool,
        masks: &str,
        name: &str,
    ) -> Result<String, ExportError> {
        let [rows, columns, channels] = self.feature.map(|n| n as i64);
        let (cells, heads) = (rows * columns, self.shape.pool_heads);
        let depth = channels / heads;
        let part = |what: &str| format!("{name}.{what}");
        let (keys, values) = match pool {
            Pool::Mean { features } => return self.mean(graph, features, masks, name, "feature"),
            Pool::Attention { keys, values } => (keys, values),
        };
        let mean = self.mean(graph, "cells", masks, name, "mean")?;
        // The mean asks.
        let own = graph.op("Add", &[&mean, "pool.position"], &part("own"), vec![]);
        let mut split = |projection: &str| -> Result<String, ExportError> {
            let x =
                graph.linear(&own, &format!("pool.{projection}"), channels, &part(&format!("{projection}.flat")))?;
            Ok(graph.reshape(&x, &[0, heads, depth], &part(projection)))
        };
        let (query, key, value) = (split("q_proj")?, split("k_proj")?, split("v_proj")?);
        let factor = graph.scalar("pool.factor", 1.0 / (depth as f32).sqrt());
        let query = graph.op("Mul", &[&query, &factor], &part("query"), vec![]);
        let products = graph.op("Mul", &[&query, &key], &part("products"), vec![]);
        let to_heads = |graph: &mut NetworkGraph, x: &str| graph.transpose(x, &[1, 0, 2], &format!("{x}.heads"));
        let products = to_heads(graph, &products);
        let sums = graph.constant("pool.sums", &Tensor::ones([depth, 1], (Kind::Float, Device::Cpu)))?;
        let own_logit = graph.op("MatMul", &[&products, &sums], &part("own.logit"), vec![]);
        let query = to_heads(graph, &query);
        let logits = graph.op("MatMul", &[&query, keys], &part("logits"), vec![]);
        // Relative shares: the largest of a row is 1.
        let axes = vec![attr_ints("axes", &[1]), attr_int("keepdims", 1)];
        let most = graph.op("ReduceMax", &[masks], &part("most"), axes);
        let least = graph.scalar("share.least", LEAST_SHARE);
        let most = graph.op("Max", &[&most, &least], &part("most.some"), vec![]);
        let shares = graph.op("Div", &[masks, &most], &part("shares"), vec![]);
        let shares = graph.op("Max", &[&shares, &least], &part("shares.some"), vec![]);
        let shares = graph.op("Log", &[&shares], &part("shares.log"), vec![]);
        let logits = graph.op("Add", &[&logits, &shares], &part("logits.masked"), vec![]);
        let all = graph.op("Concat", &[&own_logit, &logits], &part("all"), vec![attr_int("axis", -1)]);
        let weights = graph.op("Softmax", &[&all], &part("weights"), vec![attr_int("axis", -1)]);
        let on_own = graph.slice(&weights, 2, [0, 1], &part("weights.own"));
        let on_cells = graph.slice(&weights, 2, [1, 1 + cells], &part("weights.cells"));
        let value = to_heads(graph, &value);
        let from_own = graph.op("Mul", &[&on_own, &value], &part("from.own"), vec![]);
        let from_cells = graph.op("MatMul", &[&on_cells, values], &part("from.cells"), vec![]);
        let drawn = graph.op("Add", &[&from_cells, &from_own], &part("drawn"), vec![]);
        let drawn = graph.transpose(&drawn, &[1, 0, 2], &part("drawn.split"));
        let drawn = graph.reshape(&drawn, &[0, channels], &part("drawn.flat"));
        graph.linear(&drawn, "pool.c_proj", channels, &part("feature"))
    }
}
