//! What a model must fulfil before anything is done with it.

use std::collections::HashSet;

use super::OnnxError;
use super::proto::*;
use super::tensor::{element_count, raw_element_bytes};

/// Newest operator set of `ai.onnx` that this crate knows.
pub const LATEST_OPSET: i64 = 28;

/// Checks the outermost protobuf fields, to tell a file cut short from a file that never was ONNX.
pub(super) fn wire(bytes: &[u8]) -> Result<(), OnnxError> {
    if bytes.is_empty() {
        return Err(OnnxError::Empty);
    }
    let not_onnx = |reason: String| OnnxError::NotOnnx { reason };
    let mut at = 0;
    let mut known = 0;
    while at < bytes.len() {
        let start = at;
        let key =
            varint(bytes, &mut at).ok_or_else(|| not_onnx(format!("no protobuf field starts at byte {start}")))?;
        let field = u32::try_from(key >> 3).unwrap_or_default();
        let kind = key & 7;
        if !matches!((field, kind), (1 | 5, 0) | (2..=4 | 6..=8 | 14 | 20 | 25 | 26, 2)) && known == 0 {
            return Err(not_onnx(format!("it starts with field {field} of wire type {kind}, which no model has")));
        }
        known += 1;
        let needed = match kind {
            0 => {
                varint(bytes, &mut at).ok_or(OnnxError::Truncated {
                    field,
                    offset: at,
                    needed: 1,
                    available: bytes.len() - at,
                })?;
                0
            }
            1 => 8,
            5 => 4,
            2 => varint(bytes, &mut at).ok_or(OnnxError::Truncated {
                field,
                offset: at,
                needed: 1,
                available: bytes.len() - at,
            })?,
            _ => return Err(not_onnx(format!("wire type {kind} at byte {start}"))),
        };
        let available = bytes.len() - at;
        match usize::try_from(needed) {
            Ok(n) if n <= available => at += n,
            _ => {
                return Err(OnnxError::Truncated { field, offset: at, needed, available });
            }
        }
    }
    Ok(())
}

/// Reads a protobuf variable-length integer at `at` and moves `at` behind it.
fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0u64;
    for shift in 0..10 {
        let byte = *bytes.get(*at + shift)?;
        value |= u64::from(byte & 0x7f) << (7 * shift);
        if byte & 0x80 == 0 {
            *at += shift + 1;
            return Some(value);
        }
    }
    None
}

/// Checks a model: it has a graph and a known operator set, all tensors lie in the file and are as long as their shapes say, and no graph
/// defines a name twice. Subgraphs, functions and training graphs are checked alike.
///
/// # Errors
/// [`OnnxError::NoGraph`], [`OnnxError::UnknownOpset`], [`OnnxError::ExternalData`], [`OnnxError::WrongLength`],
/// [`OnnxError::DuplicateName`].
pub fn check(model: &ModelProto) -> Result<(), OnnxError> {
    let graph = model.graph.as_ref().ok_or(OnnxError::NoGraph)?;
    check_opsets(&model.opset_import)?;
    check_graph(graph)?;
    for training in &model.training_info {
        for graph in training.initialization.iter().chain(&training.algorithm) {
            check_graph(graph)?;
        }
    }
    for function in &model.functions {
        function.attribute_proto.iter().try_for_each(check_attribute)?;
        let inputs = function.input.iter().map(String::as_str).collect();
        check_nodes(function.name.as_deref().unwrap_or_default(), &function.node, inputs)?;
    }
    Ok(())
}

fn check_opsets(opsets: &[OperatorSetIdProto]) -> Result<(), OnnxError> {
    let mut seen = HashSet::new();
    let mut default = 0;
    for opset in opsets {
        let domain = match opset.domain.as_deref().unwrap_or_default() {
            "" => "ai.onnx",
            domain => domain,
        };
        if !seen.insert(domain) {
            return Err(OnnxError::DuplicateName {
                graph: "(model)".to_owned(),
                what: "operator set",
                name: domain.to_owned(),
            });
        }
        if domain == "ai.onnx" {
            default = opset.version.unwrap_or_default();
        }
    }
    if !(1..=LATEST_OPSET).contains(&default) {
        return Err(OnnxError::UnknownOpset { domain: "ai.onnx".to_owned(), version: default });
    }
    Ok(())
}

fn check_graph(graph: &GraphProto) -> Result<(), OnnxError> {
    let graph_name = graph.name.as_deref().unwrap_or_default();
    let duplicate =
        |what, name: &str| OnnxError::DuplicateName { graph: graph_name.to_owned(), what, name: name.to_owned() };
    let mut defined: HashSet<&str> = HashSet::new();
    for input in &graph.input {
        let name = input.name.as_deref().unwrap_or_default();
        if !defined.insert(name) {
            return Err(duplicate("input", name));
        }
    }
    // An initializer may bear the name of an input, whose default it then is.
    let mut constants: HashSet<&str> = HashSet::new();
    let sparse = graph.sparse_initializer.iter().filter_map(|s| s.values.as_ref());
    for tensor in graph.initializer.iter().chain(sparse) {
        if !constants.insert(tensor.name_or_empty()) {
            return Err(duplicate("initializer", tensor.name_or_empty()));
        }
    }
    graph.initializer.iter().try_for_each(check_tensor)?;
    graph.sparse_initializer.iter().try_for_each(check_sparse)?;
    defined.extend(constants);
    check_nodes(graph_name, &graph.node, defined)
}

fn check_nodes<'a>(graph_name: &str, nodes: &'a [NodeProto], mut defined: HashSet<&'a str>) -> Result<(), OnnxError> {
    for node in nodes {
        for output in node.output.iter().filter(|o| !o.is_empty()) {
            if !defined.insert(output) {
                return Err(OnnxError::DuplicateName {
                    graph: graph_name.to_owned(),
                    what: "tensor",
                    name: output.clone(),
                });
            }
        }
        node.attribute.iter().try_for_each(check_attribute)?;
    }
    Ok(())
}

fn check_attribute(attribute: &AttributeProto) -> Result<(), OnnxError> {
    attribute.t.iter().chain(&attribute.tensors).try_for_each(check_tensor)?;
    attribute.sparse_tensor.iter().chain(&attribute.sparse_tensors).try_for_each(check_sparse)?;
    attribute.g.iter().chain(&attribute.graphs).try_for_each(check_graph)
}

fn check_sparse(tensor: &SparseTensorProto) -> Result<(), OnnxError> {
    tensor.values.iter().chain(&tensor.indices).try_for_each(check_tensor)
}

fn check_tensor(tensor: &TensorProto) -> Result<(), OnnxError> {
    if tensor.data_location == Some(data_location::EXTERNAL) || !tensor.external_data.is_empty() {
        let location = tensor.external_data.iter().find(|e| e.key.as_deref() == Some("location"));
        return Err(OnnxError::ExternalData {
            tensor: tensor.name_or_empty().to_owned(),
            location: location.and_then(|e| e.value.clone()).unwrap_or_default(),
        });
    }
    let wrong = |expected: String, found: String| OnnxError::WrongLength {
        tensor: tensor.name_or_empty().to_owned(),
        dims: tensor.dims.clone(),
        expected,
        found,
    };
    let Some(count) = element_count(&tensor.dims) else {
        return Err(wrong("a countable number of elements".to_owned(), "such dimensions".to_owned()));
    };
    let data_type = tensor.data_type.unwrap_or_default();
    if let Some(raw) = &tensor.raw_data {
        let fits = raw_element_bytes(data_type).is_none_or(|n| count.checked_mul(n) == Some(raw.len()));
        return if fits { Ok(()) } else { Err(wrong(format!("{count} elements"), format!("{} bytes", raw.len()))) };
    }
    let found = match data_type {
        data_type::FLOAT => tensor.float_data.len(),
        data_type::DOUBLE => tensor.double_data.len(),
        data_type::INT64 => tensor.int64_data.len(),
        data_type::STRING => tensor.string_data.len(),
        data_type::UINT32 | data_type::UINT64 => tensor.uint64_data.len(),
        data_type::COMPLEX64 => tensor.float_data.len() / 2,
        data_type::COMPLEX128 => tensor.double_data.len() / 2,
        _ if raw_element_bytes(data_type).is_some() => tensor.int32_data.len(),
        _ => return Ok(()), // A type that shares a byte among elements, or a newer one: taken as it is.
    };
    if found == count { Ok(()) } else { Err(wrong(format!("{count} elements"), format!("{found} elements"))) }
}
