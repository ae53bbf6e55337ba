use std::collections::BTreeSet;
use std::path::Path;

use hoi_runtime::engine::{Dim, ElementType, Engine as _, GraphRequest, Tensor, TractEngine};

use super::*;

/// `y = x w + b` with `x` of `[P, 2]`.
fn linear() -> ModelProto {
    let p = || Dim::Symbol("P".into());
    GraphBuilder::new("linear")
        .input("x", ElementType::F32, &[p(), Dim::Fixed(2)])
        .initializer_f32("w", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        .initializer_f32("b", &[3], &[0.5, 0.0, -0.5])
        .node("Gemm", &["x", "w", "b"], &["y"], vec![attr_float("alpha", 1.0), attr_int("transB", 0)])
        .output("y", ElementType::F32, &[p(), Dim::Fixed(3)])
        .finish()
}

#[test]
fn a_built_graph_runs_in_the_engine() {
    let bytes = to_bytes(&linear()).unwrap();
    let model = TractEngine::new(1).load(&bytes, &GraphRequest::default()).unwrap();
    let x = ndarray::arr2(&[[1.0f32, 1.0], [2.0, 0.0]]).into_dyn();
    let y = model.run(vec![Tensor::F32(x)]).unwrap();
    assert_eq!(y[0].as_f32().unwrap(), &ndarray::arr2(&[[5.5, 7.0, 8.5], [2.5, 4.0, 5.5]]).into_dyn());
}

#[test]
fn every_kind_of_attribute_and_type_survives() {
    let mut model = linear();
    let subgraph = model.graph.clone();
    let tensor = subgraph.as_ref().unwrap().initializer[0].clone();
    let int64s = TensorProto {
        dims: vec![2],
        data_type: Some(data_type::INT64),
        int64_data: vec![-1, 1 << 40],
        ..TensorProto::default()
    };
    let sparse = SparseTensorProto { values: Some(tensor.clone()), indices: Some(int64s.clone()), dims: vec![3, 3] };
    let shape = TensorShapeProto { dim: vec![Dimension { value: None, denotation: Some("DATA_BATCH".into()) }] };
    let leaf = TypeProto {
        value: Some(TypeValue::SparseTensor(TensorType { elem_type: Some(data_type::BFLOAT16), shape: Some(shape) })),
        denotation: Some("IMAGE".into()),
    };
    let boxed = || Some(Box::new(leaf.clone()));
    let wrap = |value| TypeProto { value: Some(value), denotation: None };
    let types = vec![
        wrap(TypeValue::Sequence(SequenceType { elem_type: boxed() })),
        wrap(TypeValue::Map(MapType { key_type: Some(data_type::STRING), value_type: boxed() })),
        wrap(TypeValue::Optional(OptionalType { elem_type: boxed() })),
        wrap(TypeValue::Opaque(OpaqueType { domain: Some("d".into()), name: Some("n".into()) })),
    ];
    let everything = AttributeProto {
        name: Some("all".into()),
        f: Some(0.0),
        i: Some(0),
        s: Some(vec![0xff, 0x00]),
        t: Some(TensorProto { segment: Some(TensorSegment { begin: Some(0), end: Some(6) }), ..tensor.clone() }),
        g: subgraph.clone(),
        floats: vec![1.0, -0.0],
        ints: vec![i64::MIN, 7],
        strings: vec![vec![], vec![1]],
        tensors: vec![int64s.clone()],
        graphs: subgraph.iter().cloned().collect(),
        doc_string: Some("d".into()),
        tp: Some(leaf.clone()),
        type_protos: types,
        r#type: Some(attribute_type::TYPE_PROTOS),
        ref_attr_name: Some("outer".into()),
        sparse_tensor: Some(sparse.clone()),
        sparse_tensors: vec![sparse.clone()],
    };
    let entry = |k: &str| StringStringEntryProto { key: Some(k.into()), value: Some(String::new()) };
    let graph = model.graph.as_mut().unwrap();
    graph.node[0].attribute.push(everything.clone());
    graph.node[0].overload = Some("o".into());
    graph.node[0].metadata_props = vec![entry("node")];
    graph.quantization_annotation = vec![TensorAnnotation {
        tensor_name: Some("w".into()),
        quant_parameter_tensor_names: vec![entry("SCALE_TENSOR")],
    }];
    model.functions = vec![FunctionProto {
        name: Some("f".into()),
        input: vec!["a".into()],
        output: vec!["b".into()],
        attribute: vec!["k".into()],
        attribute_proto: vec![attr_string("mode", "x"), attr_ints("axes", &[0, -1])],
        opset_import: model.opset_import.clone(),
        ..FunctionProto::default()
    }];
    model.training_info = vec![TrainingInfoProto {
        algorithm: subgraph,
        update_binding: vec![entry("w")],
        ..TrainingInfoProto::default()
    }];
    model.configuration =
        vec![DeviceConfigurationProto { num_devices: Some(2), ..DeviceConfigurationProto::default() }];
    let bytes = to_bytes(&model).unwrap();
    assert_eq!(from_bytes(&bytes).unwrap(), model);
}

#[test]
fn bad_models_are_refused_by_name() {
    let refused = |change: fn(&mut ModelProto)| {
        let mut model = linear();
        change(&mut model);
        let error = from_bytes(&model.encode_to_vec()).unwrap_err();
        assert_eq!(to_bytes(&model).unwrap_err().to_string(), error.to_string());
        error
    };
    assert!(matches!(refused(|m| m.graph = None), OnnxError::NoGraph));
    assert!(matches!(refused(|m| m.opset_import.clear()), OnnxError::UnknownOpset { version: 0, .. }));
    assert!(matches!(refused(|m| m.opset_import[0].version = Some(99)), OnnxError::UnknownOpset { version: 99, .. }));
    let error = refused(|m| {
        let g = m.graph.as_mut().unwrap();
        g.initializer.push(g.initializer[0].clone());
    });
    assert!(matches!(&error, OnnxError::DuplicateName { what: "initializer", name, .. } if name == "w"), "{error}");
    let error = refused(|m| {
        let g = m.graph.as_mut().unwrap();
        g.node.push(g.node[0].clone());
    });
    assert!(matches!(&error, OnnxError::DuplicateName { what: "tensor", name, .. } if name == "y"), "{error}");
    let error = refused(|m| {
        let g = m.graph.as_mut().unwrap();
        g.input.push(g.input[0].clone());
    });
    assert!(matches!(&error, OnnxError::DuplicateName { what: "input", name, .. } if name == "x"), "{error}");
    let error = refused(|m| {
        let g = m.graph.as_mut().unwrap();
        g.initializer[1].dims = vec![4];
    });
    assert!(matches!(&error, OnnxError::WrongLength { tensor, .. } if tensor == "b"), "{error}");
    let error = refused(|m| {
        let g = m.graph.as_mut().unwrap();
        g.initializer[1].dims = vec![-3];
    });
    assert!(matches!(&error, OnnxError::WrongLength { tensor, .. } if tensor == "b"), "{error}");
    let error = refused(|m| {
        let tensor = &mut m.graph.as_mut().unwrap().initializer[0];
        tensor.raw_data = None;
        tensor.data_location = Some(data_location::EXTERNAL);
        let entry = StringStringEntryProto { key: Some("location".into()), value: Some("../weights.bin".into()) };
        tensor.external_data = vec![entry];
    });
    assert!(
        matches!(&error, OnnxError::ExternalData { tensor, location } if tensor == "w" && location == "../weights.bin"),
        "{error}"
    );
}

#[test]
fn every_truncation_is_an_error_and_never_a_panic() {
    let bytes = to_bytes(&linear()).unwrap();
    for n in 0..bytes.len() {
        let result = from_bytes(&bytes[..n]);
        assert!(result.is_err(), "the first {n} of {} bytes were taken for a whole file", bytes.len());
    }
    assert!(matches!(from_bytes(&[]), Err(OnnxError::Empty)));
    assert!(matches!(from_bytes(&bytes[..bytes.len() / 2]), Err(OnnxError::Truncated { field: 7, .. })));
}

#[test]
fn other_files_are_not_onnx() {
    for bytes in
        [&b"\x89PNG\r\n\x1a\n0000"[..], b"PK\x03\x04", b"{\"a\": 1}", b"\xff\xd8\xff\xe0", &[0; 64], &[0xff; 64]]
    {
        let error = from_bytes(bytes).unwrap_err();
        assert!(matches!(error, OnnxError::NotOnnx { .. }), "{bytes:?}: {error}");
    }
}

#[test]
fn reading_and_writing_paths() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.onnx");
    write(&linear(), &path).unwrap();
    assert_eq!(read(&path).unwrap(), linear());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing but the file is left");
    assert!(matches!(read(folder.path()), Err(OnnxError::NotAFile { .. })));
    assert!(matches!(read(&folder.path().join("b.onnx")), Err(OnnxError::Io { .. })));
    assert!(matches!(write(&linear(), &folder.path().join("no/a.onnx")), Err(OnnxError::Io { .. })));
}

/// Field paths (`7/1/5`) that occur in a message, without any schema: length-delimited fields are opened when their bytes parse as messages.
fn field_counts(bytes: &[u8], graph_only: bool) -> BTreeSet<(u64, u64, usize)> {
    let mut found = BTreeSet::new();
    let mut at = 0;
    while at < bytes.len() {
        let key = read_varint(bytes, &mut at);
        let length = match key & 7 {
            0 => {
                read_varint(bytes, &mut at);
                0
            }
            1 => 8,
            5 => 4,
            2 => read_varint(bytes, &mut at) as usize,
            kind => panic!("wire type {kind}"),
        };
        if graph_only && key >> 3 == 7 {
            return field_counts(&bytes[at..at + length], false);
        }
        at += length;
        let n = found.iter().filter(|(k, ..): &&(u64, u64, usize)| *k == key).count();
        found.insert((key, n as u64, length));
    }
    found
}

fn read_varint(bytes: &[u8], at: &mut usize) -> u64 {
    let mut value = 0;
    for shift in 0.. {
        let byte = bytes[*at];
        *at += 1;
        value |= u64::from(byte & 0x7f) << (7 * shift);
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

#[test]
fn real_files_lose_nothing() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/weights");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("skipped: {} is not there", folder.display());
        return;
    };
    for path in entries.map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "onnx")) {
        let before = std::fs::read(&path).unwrap();
        let model = from_bytes(&before).unwrap();
        let after = to_bytes(&model).unwrap();
        println!("{}: {} -> {} bytes", path.display(), before.len(), after.len());
        assert_eq!(from_bytes(&after).unwrap(), model);
        assert_eq!(before.len(), after.len(), "{}", path.display());
        assert_eq!(field_counts(&before, false), field_counts(&after, false), "{}", path.display());
        assert_eq!(field_counts(&before, true), field_counts(&after, true), "{}", path.display());
    }
}
