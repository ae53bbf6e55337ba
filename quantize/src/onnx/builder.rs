//! Building graphs in Rust.

use hoi_runtime::engine::{Dim, ElementType};

use super::proto::*;
use super::proto_type::*;

/// Operator set of the graphs built here.
const OPSET: i64 = 17;
/// IR version of the graphs built here.
const IR_VERSION: i64 = 8;

/// Builds a model node by node, in the order in which the nodes run (opset 17, IR version 8).
///
/// Nothing is checked before the model is encoded: [`to_bytes`](super::to_bytes) and [`write`](super::write()) refuse duplicate names and
/// initializers whose length does not fit their shape.
#[derive(Clone, Debug, Default)]
pub struct GraphBuilder {
    graph: GraphProto,
}

impl GraphBuilder {
    /// An empty graph.
    pub fn new(name: impl Into<String>) -> Self {
        Self { graph: GraphProto { name: Some(name.into()), ..GraphProto::default() } }
    }

    /// Declares an input of the graph.
    pub fn input(&mut self, name: &str, element: ElementType, shape: &[Dim]) -> &mut Self {
        self.graph.input.push(value_info(name, element, shape));
        self
    }

    /// Declares an output of the graph: a tensor that some node gives.
    pub fn output(&mut self, name: &str, element: ElementType, shape: &[Dim]) -> &mut Self {
        self.graph.output.push(value_info(name, element, shape));
        self
    }

    /// Adds a constant of floats, `values` row-major.
    pub fn initializer_f32(&mut self, name: &str, shape: &[usize], values: &[f32]) -> &mut Self {
        let raw = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.graph.initializer.push(raw_tensor(name, data_type::FLOAT, shape, raw));
        self
    }

    /// Adds a constant of integers, `values` row-major.
    pub fn initializer_i64(&mut self, name: &str, shape: &[usize], values: &[i64]) -> &mut Self {
        let raw = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.graph.initializer.push(raw_tensor(name, data_type::INT64, shape, raw));
        self
    }

    /// Adds a node of the default domain, named after its first output.
    ///
    /// An empty string among `inputs` leaves out an optional input.
    pub fn node(
        &mut self,
        op_type: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) -> &mut Self {
        self.graph.node.push(NodeProto {
            input: inputs.iter().map(|&s| s.to_owned()).collect(),
            output: outputs.iter().map(|&s| s.to_owned()).collect(),
            name: outputs.first().map(|&s| s.to_owned()),
            op_type: Some(op_type.to_owned()),
            attribute: attributes,
            ..NodeProto::default()
        });
        self
    }

    /// Hands the model over and leaves the builder empty.
    pub fn finish(&mut self) -> ModelProto {
        ModelProto {
            ir_version: Some(IR_VERSION),
            producer_name: Some("hoi-edge".to_owned()),
            producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            graph: Some(std::mem::take(&mut self.graph)),
            opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(OPSET) }],
            ..ModelProto::default()
        }
    }
}

fn raw_tensor(name: &str, data_type: i32, shape: &[usize], raw: Vec<u8>) -> TensorProto {
    TensorProto {
        dims: shape.iter().map(|&n| n as i64).collect(),
        data_type: Some(data_type),
        name: Some(name.to_owned()),
        raw_data: Some(raw),
        ..TensorProto::default()
    }
}

fn value_info(name: &str, element: ElementType, shape: &[Dim]) -> ValueInfoProto {
    let elem_type = match element {
        ElementType::F32 => data_type::FLOAT,
        ElementType::I64 => data_type::INT64,
    };
    let dim = shape
        .iter()
        .map(|d| Dimension {
            value: Some(match d {
                Dim::Fixed(n) => DimensionValue::DimValue(*n as i64),
                Dim::Symbol(s) => DimensionValue::DimParam(s.clone()),
            }),
            denotation: None,
        })
        .collect();
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            value: Some(TypeValue::Tensor(TensorType {
                elem_type: Some(elem_type),
                shape: Some(TensorShapeProto { dim }),
            })),
            denotation: None,
        }),
        ..ValueInfoProto::default()
    }
}

fn attribute(name: &str, r#type: i32) -> AttributeProto {
    AttributeProto { name: Some(name.to_owned()), r#type: Some(r#type), ..AttributeProto::default() }
}

/// An attribute that holds one integer.
pub fn attr_int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..attribute(name, attribute_type::INT) }
}

/// An attribute that holds a list of integers.
pub fn attr_ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute(name, attribute_type::INTS) }
}

/// An attribute that holds one float.
pub fn attr_float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { f: Some(value), ..attribute(name, attribute_type::FLOAT) }
}

/// An attribute that holds a string.
pub fn attr_string(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: Some(value.as_bytes().to_vec()), ..attribute(name, attribute_type::STRING) }
}
