//! What is read out of tensors and models.

use super::proto::{ModelProto, TensorProto, data_type};

impl TensorProto {
    /// Its name, empty when it has none.
    pub fn name_or_empty(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// The floats of an f32 tensor, row-major, from `raw_data` or `float_data`; `None` for any other element type.
    pub fn f32_values(&self) -> Option<Vec<f32>> {
        if self.data_type != Some(data_type::FLOAT) {
            return None;
        }
        Some(match &self.raw_data {
            Some(raw) => raw.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
            None => self.float_data.clone(),
        })
    }
}

/// How many elements a shape has; `None` when a dimension is negative or the number does not fit.
pub fn element_count(dims: &[i64]) -> Option<usize> {
    dims.iter().try_fold(1usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?))
}

/// Bytes an element takes in `raw_data`; `None` for strings and for types that share a byte or are not known here.
pub(super) fn raw_element_bytes(data_type: i32) -> Option<usize> {
    match data_type {
        data_type::BOOL | data_type::INT8 | data_type::UINT8 | 17..=20 => Some(1),
        data_type::FLOAT16 | data_type::BFLOAT16 | data_type::INT16 | data_type::UINT16 => Some(2),
        data_type::FLOAT | data_type::INT32 | data_type::UINT32 => Some(4),
        data_type::DOUBLE | data_type::INT64 | data_type::UINT64 | data_type::COMPLEX64 => Some(8),
        data_type::COMPLEX128 => Some(16),
        _ => None,
    }
}

impl ModelProto {
    /// Version of the default operator set (`ai.onnx`); 0 when the model names none.
    pub fn opset(&self) -> i64 {
        let default = self.opset_import.iter().find(|o| matches!(o.domain.as_deref(), None | Some("" | "ai.onnx")));
        default.and_then(|o| o.version).unwrap_or_default()
    }
}
