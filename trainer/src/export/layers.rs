//! Layers as ONNX nodes: linear, norm, attention, and the encoder and decoder layers made of them. Batches have one element and no
//! batch axis: tokens are `[L, D]`.

use std::collections::BTreeSet;

use hoi_quantize::onnx::{AttributeProto, GraphBuilder, ModelProto, attr_float, attr_int, attr_ints, attr_string};
use hoi_runtime::engine::TensorSpec;
use tch::Tensor;

use super::weights::{ANY, ExportError, Weights, values};
use crate::network::transformer::Activation;

/// Sizes of a transformer layer that its weights do not tell.
#[derive(Clone, Copy, Debug)]
pub(super) struct LayerSizes {
    pub(super) width: i64,
    pub(super) heads: i64,
    pub(super) activation: Activation,
    pub(super) norm_eps: f64,
}

/// A graph under construction. Methods that add nodes give the name of the tensor they end in.
///
/// Weights keep their names; a matrix is stored `[in, out]`, so that a bias follows its product as a constant, which lets an engine
/// do both, and a ReLU behind them, in one pass.
pub(super) struct NetworkGraph<'a> {
    graph: GraphBuilder,
    pub(super) weights: Weights<'a>,
    constants: BTreeSet<String>,
}

impl<'a> NetworkGraph<'a> {
    pub(super) fn new(name: &str, weights: Weights<'a>) -> Self {
        Self { graph: GraphBuilder::new(name), weights, constants: BTreeSet::new() }
    }

    /// Declares an input or output of the graph.
    pub(super) fn input(&mut self, spec: &TensorSpec) {
        self.graph.input(&spec.name, spec.element, &spec.shape);
    }

    /// Declares an output of the graph.
    pub(super) fn output(&mut self, spec: &TensorSpec) {
        self.graph.output(&spec.name, spec.element, &spec.shape);
    }

    /// The model, when all weights are in it.
    ///
    /// # Errors
    /// [`ExportError::UnusedWeight`].
    pub(super) fn finish(mut self) -> Result<ModelProto, ExportError> {
        self.weights.all_taken()?;
        Ok(self.graph.finish())
    }

    /// Adds one node.
    pub(super) fn op(
        &mut self,
        op_type: &str,
        inputs: &[&str],
        output: &str,
        attributes: Vec<AttributeProto>,
    ) -> String {
        self.graph.node(op_type, inputs, &[output], attributes);
        output.to_owned()
    }

    /// Adds a constant.
    ///
    /// # Errors
    /// [`ExportError::NotFinite`] when a value is NaN or infinite.
    pub(super) fn constant(&mut self, name: &str, tensor: &Tensor) -> Result<String, ExportError> {
        let shape: Vec<usize> = tensor.size().iter().map(|&n| n as usize).collect();
        let values = values(tensor);
        if !values.iter().all(|v| v.is_finite()) {
            return Err(ExportError::NotFinite { name: name.to_owned() });
        }
        if self.constants.insert(name.to_owned()) {
            self.graph.initializer_f32(name, &shape, &values);
        }
        Ok(name.to_owned())
    }

    /// One number as a constant; the same name may be asked for again.
    pub(super) fn scalar(&mut self, name: &str, value: f32) -> String {
        if self.constants.insert(name.to_owned()) {
            self.graph.initializer_f32(name, &[], &[value]);
        }
        name.to_owned()
    }

    /// The map `x` `[1, C, h, w]` at other sizes, bilinear, cells by their centres.
    pub(super) fn resize(&mut self, x: &str, sizes: [i64; 4], output: &str) -> String {
        let name = format!("sizes_{}", sizes.map(|n| n.to_string()).join("x"));
        if self.constants.insert(name.clone()) {
            self.graph.initializer_i64(&name, &[sizes.len()], &sizes);
        }
        let attributes =
            vec![attr_string("mode", "linear"), attr_string("coordinate_transformation_mode", "half_pixel")];
        self.op("Resize", &[x, "", "", &name], output, attributes)
    }

    /// `x` in another shape; 0 keeps a length.
    pub(super) fn reshape(&mut self, x: &str, shape: &[i64], output: &str) -> String {
        let name = format!("shape_{}", shape.iter().map(i64::to_string).collect::<Vec<_>>().join("x"));
        if self.constants.insert(name.clone()) {
            self.graph.initializer_i64(&name, &[shape.len()], shape);
        }
        self.op("Reshape", &[x, &name], output, vec![])
    }

    pub(super) fn transpose(&mut self, x: &str, order: &[i64], output: &str) -> String {
        self.op("Transpose", &[x], output, vec![attr_ints("perm", order)])
    }

    /// The entries `from` up to before `to` of an axis.
    pub(super) fn slice(&mut self, x: &str, axis: i64, [from, to]: [i64; 2], output: &str) -> String {
        let names = [from, to, axis].map(|value| {
            let name = format!("slice_{value}");
            if self.constants.insert(name.clone()) {
                self.graph.initializer_i64(&name, &[1], &[value]);
            }
            name
        });
        self.op("Slice", &[x, &names[0], &names[1], &names[2]], output, vec![])
    }

    /// `x [L, in] -> [L, out]` with `key.weight [out, in]` and `key.bias [out]`.
    pub(super) fn linear(&mut self, x: &str, key: &str, inputs: i64, output: &str) -> Result<String, ExportError> {
        let weight = self.weights.take(&format!("{key}.weight"), &[ANY, inputs])?;
        let bias = self.weights.take(&format!("{key}.bias"), &[weight.size()[0]])?;
        self.product(x, key, &weight, &bias, output)
    }

    /// `x w^T + b`, with the constants named after `key`.
    fn product(
        &mut self,
        x: &str,
        key: &str,
        weight: &Tensor,
        bias: &Tensor,
        output: &str,
    ) -> Result<String, ExportError> {
        let weight = self.constant(&format!("{key}.weight"), &weight.transpose(0, 1))?;
        let bias = self.constant(&format!("{key}.bias"), bias)?;
        let product = self.op("MatMul", &[x, &weight], &format!("{output}.product"), vec![]);
        Ok(self.op("Add", &[&product, &bias], output, vec![]))
    }

    /// Layer norm over the last axis.
    pub(super) fn layer_norm(
        &mut self,
        x: &str,
        key: &str,
        width: i64,
        eps: f64,
        output: &str,
    ) -> Result<String, ExportError> {
        let [weight, bias] = ["weight", "bias"].map(|part| format!("{key}.{part}"));
        for name in [&weight, &bias] {
            let tensor = self.weights.take(name, &[width])?;
            self.constant(name, &tensor)?;
        }
        let attributes = vec![attr_int("axis", -1), attr_float("epsilon", eps as f32)];
        Ok(self.op("LayerNormalization", &[x, &weight, &bias], output, attributes))
    }

    /// Multi-head attention of `query [Lq, D]` over `keys` and `values` `[Lk, D]`; `1 / sqrt(d)` is part of the query's weights.
    fn attention(
        &mut self,
        [query, keys, values]: [&str; 3],
        key: &str,
        sizes: &LayerSizes,
    ) -> Result<String, ExportError> {
        let (width, heads) = (sizes.width, sizes.heads);
        let depth = width / heads;
        let weight = self.weights.take(&format!("{key}.in_proj_weight"), &[3 * width, width])?;
        let bias = self.weights.take(&format!("{key}.in_proj_bias"), &[3 * width])?;
        let mut projected = Vec::with_capacity(3);
        // Keys come transposed, ready for the product.
        for (i, (x, part, order)) in
            [(query, "q", [1, 0, 2]), (keys, "k", [1, 2, 0]), (values, "v", [1, 0, 2])].into_iter().enumerate()
        {
            let scale = if part == "q" { 1.0 / (depth as f64).sqrt() } else { 1.0 };
            let rows = |t: &Tensor| t.narrow(0, i as i64 * width, width) * scale;
            let name = format!("{key}.{part}");
            let flat = self.product(x, &name, &rows(&weight), &rows(&bias), &format!("{name}.flat"))?;
            let split = self.reshape(&flat, &[0, heads, depth], &format!("{name}.split"));
            projected.push(self.transpose(&split, &order, &format!("{name}.heads")));
        }
        let scores = self.op("MatMul", &[&projected[0], &projected[1]], &format!("{key}.scores"), vec![]);
        let shares = self.op("Softmax", &[&scores], &format!("{key}.shares"), vec![attr_int("axis", -1)]);
        let drawn = self.op("MatMul", &[&shares, &projected[2]], &format!("{key}.drawn"), vec![]);
        let drawn = self.transpose(&drawn, &[1, 0, 2], &format!("{key}.drawn.split"));
        let drawn = self.reshape(&drawn, &[0, width], &format!("{key}.drawn.flat"));
        self.linear(&drawn, &format!("{key}.out_proj"), width, &format!("{key}.out"))
    }

    /// `norm(x + y)`.
    fn add_norm(
        &mut self,
        [x, y]: [&str; 2],
        key: &str,
        sizes: &LayerSizes,
        output: &str,
    ) -> Result<String, ExportError> {
        let sum = self.op("Add", &[x, y], &format!("{output}.sum"), vec![]);
        self.layer_norm(&sum, key, sizes.width, sizes.norm_eps, output)
    }

    /// The feed-forward block with its residual and norm.
    fn feed_forward(
        &mut self,
        x: &str,
        key: &str,
        norm: &str,
        sizes: &LayerSizes,
        output: &str,
    ) -> Result<String, ExportError> {
        let inner = self.linear(x, &format!("{key}.linear1"), sizes.width, &format!("{key}.inner"))?;
        let active = self.activation(&inner, sizes.activation, &format!("{key}.active"));
        let hidden = self.weights.take(&format!("{key}.linear2.weight"), &[sizes.width, ANY])?.size()[1];
        let fed = self.linear(&active, &format!("{key}.linear2"), hidden, &format!("{key}.fed"))?;
        self.add_norm([x, &fed], &format!("{key}.{norm}"), sizes, output)
    }

    fn activation(&mut self, x: &str, activation: Activation, output: &str) -> String {
        match activation {
            Activation::Relu => self.op("Relu", &[x], output, vec![]),
            // 0.5 x (1 + erf(x / sqrt(2)))
            Activation::Gelu => {
                let part = |name: &str| format!("{output}.{name}");
                let root = self.scalar("gelu.root", std::f32::consts::FRAC_1_SQRT_2);
                let (half, one) = (self.scalar("gelu.half", 0.5), self.scalar("gelu.one", 1.0));
                let scaled = self.op("Mul", &[x, &root], &part("scaled"), vec![]);
                let erf = self.op("Erf", &[&scaled], &part("erf"), vec![]);
                let share = self.op("Add", &[&erf, &one], &part("share"), vec![]);
                let halved = self.op("Mul", &[x, &half], &part("halved"), vec![]);
                self.op("Mul", &[&halved, &share], output, vec![])
            }
        }
    }

    /// A post-norm encoder layer; `position [L, D]` is added to queries and keys.
    ///
    /// # Errors
    /// [`ExportError`] naming the weight that is missing, of another shape or not finite.
    pub(super) fn encoder_layer(
        &mut self,
        x: &str,
        position: Option<&str>,
        key: &str,
        sizes: &LayerSizes,
    ) -> Result<String, ExportError> {
        let placed = match position {
            Some(position) => self.op("Add", &[x, position], &format!("{key}.placed"), vec![]),
            None => x.to_owned(),
        };
        let drawn = self.attention([&placed, &placed, x], &format!("{key}.self_attn"), sizes)?;
        let x = self.add_norm([x, &drawn], &format!("{key}.norm1"), sizes, &format!("{key}.attended"))?;
        self.feed_forward(&x, key, "norm2", sizes, &format!("{key}.out"))
    }

    /// A post-norm decoder layer; `position [Q, D]` is added to the queries of both attentions and the keys of the first; `memory` is
    /// keys and values.
    ///
    /// # Errors
    /// [`ExportError`] naming the weight that is missing, of another shape or not finite.
    pub(super) fn decoder_layer(
        &mut self,
        x: &str,
        position: &str,
        [keys, values]: [&str; 2],
        key: &str,
        sizes: &LayerSizes,
    ) -> Result<String, ExportError> {
        let placed = self.op("Add", &[x, position], &format!("{key}.placed"), vec![]);
        let drawn = self.attention([&placed, &placed, x], &format!("{key}.self_attn"), sizes)?;
        let x = self.add_norm([x, &drawn], &format!("{key}.norm1"), sizes, &format!("{key}.attended"))?;
        let placed = self.op("Add", &[&x, position], &format!("{key}.asking"), vec![]);
        let drawn = self.attention([&placed, keys, values], &format!("{key}.multihead_attn"), sizes)?;
        let x = self.add_norm([&x, &drawn], &format!("{key}.norm2"), sizes, &format!("{key}.read"))?;
        self.feed_forward(&x, key, "norm3", sizes, &format!("{key}.out"))
    }
}
