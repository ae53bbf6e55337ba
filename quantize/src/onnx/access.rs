//! Short ways to read attributes and to make tensors.

use half::f16;

use super::proto::{AttributeProto, GraphProto, NodeProto, TensorProto, data_type};

impl NodeProto {
    /// The operator, empty when it is none of the default domain.
    pub fn op(&self) -> &str {
        match self.domain.as_deref() {
            None | Some("" | "ai.onnx") => self.op_type.as_deref().unwrap_or_default(),
            Some(_) => "",
        }
    }

    /// The node's name, or its first output where it has none.
    pub fn label(&self) -> &str {
        match self.name.as_deref() {
            Some(name) if !name.is_empty() => name,
            _ => self.output.first().map_or("", String::as_str),
        }
    }

    /// Input `position`; `None` where it is left out.
    pub fn input_at(&self, position: usize) -> Option<&str> {
        self.input.get(position).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// The attribute called `name`.
    pub fn attribute_named(&self, name: &str) -> Option<&AttributeProto> {
        self.attribute.iter().find(|a| a.name.as_deref() == Some(name))
    }

    /// An attribute that holds one integer.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.attribute_named(name)?.i
    }

    /// An attribute that holds one float.
    pub fn float(&self, name: &str) -> Option<f32> {
        self.attribute_named(name)?.f
    }

    /// An attribute that holds a list of integers; empty when there is none.
    pub fn ints(&self, name: &str) -> &[i64] {
        self.attribute_named(name).map_or(&[], |a| &a.ints)
    }

    /// An attribute that holds a string; `None` also where it is no UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.attribute_named(name)?.s.as_deref()?).ok()
    }

    /// Sets an attribute, replacing the one of the same name.
    pub fn set_attribute(&mut self, attribute: AttributeProto) {
        self.attribute.retain(|a| a.name != attribute.name);
        self.attribute.push(attribute);
    }
}

impl GraphProto {
    /// The initializer called `name`.
    pub fn initializer_named(&self, name: &str) -> Option<&TensorProto> {
        self.initializer.iter().find(|t| t.name.as_deref() == Some(name))
    }
}

fn raw(name: &str, data_type: i32, dims: &[i64], raw: Vec<u8>) -> TensorProto {
    TensorProto {
        dims: dims.to_vec(),
        data_type: Some(data_type),
        name: Some(name.to_owned()),
        raw_data: Some(raw),
        ..TensorProto::default()
    }
}

impl TensorProto {
    /// A tensor of f32, row-major.
    pub fn from_f32(name: &str, dims: &[i64], values: &[f32]) -> Self {
        raw(name, data_type::FLOAT, dims, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// A tensor of i8, row-major.
    pub fn from_i8(name: &str, dims: &[i64], values: &[i8]) -> Self {
        raw(name, data_type::INT8, dims, values.iter().map(|v| v.cast_unsigned()).collect())
    }

    /// A tensor of i32, row-major.
    pub fn from_i32(name: &str, dims: &[i64], values: &[i32]) -> Self {
        raw(name, data_type::INT32, dims, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// A tensor of i64, row-major.
    pub fn from_i64(name: &str, dims: &[i64], values: &[i64]) -> Self {
        raw(name, data_type::INT64, dims, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// The values of an f16 tensor as f32; `None` for any other element type.
    pub fn f16_values(&self) -> Option<Vec<f32>> {
        if self.data_type != Some(data_type::FLOAT16) {
            return None;
        }
        Some(match &self.raw_data {
            Some(raw) => raw.as_chunks().0.iter().map(|&b| f16::from_le_bytes(b).to_f32()).collect(),
            None => self.int32_data.iter().map(|&bits| f16::from_bits(bits as u16).to_f32()).collect(),
        })
    }

    /// The values of an i64 tensor; `None` for any other element type.
    pub fn i64_values(&self) -> Option<Vec<i64>> {
        if self.data_type != Some(data_type::INT64) {
            return None;
        }
        Some(match &self.raw_data {
            Some(raw) => raw.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b)).collect(),
            None => self.int64_data.clone(),
        })
    }
}
