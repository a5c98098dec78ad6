use serde_json::json;

use super::*;

type Example = [(&'static str, [usize; 2], Vec<f32>); 2];

fn example(path: &Path) -> Example {
    let tensors = [("b", [2, 3], vec![0.0, -0.0, f32::MIN_POSITIVE, 1.5, f32::MAX, -1e-40]), ("a", [1, 1], vec![f32::EPSILON])];
    put(path, &tensors);
    tensors
}

fn put(path: &Path, tensors: &[(&'static str, [usize; 2], Vec<f32>)]) {
    let heads: Vec<NewTensor> = tensors.iter().map(|(name, shape, _)| NewTensor::f32((*name).to_owned(), shape)).collect();
    write(path, &heads, |index| Ok(f32_bytes(&tensors[index].2))).unwrap();
}

fn check(files: &TensorFiles, tensors: &Example) -> Result<(), Error> {
    files.check(tensors.iter().map(|(name, shape, _)| ((*name).to_owned(), &shape[..])))
}

#[test]
fn what_is_written_is_read_to_the_last_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let tensors = example(&path);
    let file = TensorFiles::open(&path).unwrap();
    check(&file, &tensors).unwrap();
    for (name, _, values) in tensors {
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<u32>>();
        assert_eq!(bits(&file.values(name)), bits(&values));
        // Pages that were given back are read again.
        file.release(name);
        assert_eq!(bits(&file.values(name)), bits(&values));
    }
    let bytes = std::fs::read(&path).unwrap();
    example(&path);
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[test]
fn shorter_floats_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let values = [1.5f32, -0.25, 3.0];
    let heads = [Dtype::BF16, Dtype::F16].map(|dtype| NewTensor { name: dtype.to_string(), dtype, shape: vec![3] });
    let bytes = [values.map(|x| bf16::from_f32(x).to_le_bytes()).concat(), values.map(|x| f16::from_f32(x).to_le_bytes()).concat()];
    write(&path, &heads, |index| Ok(bytes[index].clone())).unwrap();
    let file = TensorFiles::open(&path).unwrap();
    for head in heads {
        assert_eq!(file.values(&head.name), values);
    }
}

#[test]
fn every_fault_is_named_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    example(&path);
    let file = TensorFiles::open(&path).unwrap();
    let message = file.check([("a".into(), &[1usize, 2][..]), ("c".into(), &[1][..])]).unwrap_err().to_string();
    for part in ["x.safetensors: ", "a has the shape [1, 1], [1, 2] was needed", "c is missing", "b is no tensor of this student"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn several_files_are_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let tensors = example(&path("whole"));
    let [one, two] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    put(&path(one), &tensors[..1]);
    put(&path(two), &tensors[1..]);
    let index = |map: serde_json::Value| fs::write(path(INDEX), json!({ "metadata": {}, "weight_map": map }).to_string()).unwrap();
    index(json!({ "b": one, "a": two }));
    let files = TensorFiles::open_folder(folder.path()).unwrap();
    check(&files, &tensors).unwrap();
    assert_eq!((files.values("a"), files.values("b")), (tensors[1].2.clone(), tensors[0].2.clone()));

    index(json!({ "b": one, "a": one, "d": two }));
    let message = check(&TensorFiles::open_folder(folder.path()).unwrap(), &tensors).unwrap_err().to_string();
    for part in ["a is not in model-00001-of-00002", "d is not in model-00002-of-00002"] {
        assert!(message.contains(part), "{message}");
    }
    put(&path(two), &tensors);
    index(json!({ "b": one, "a": two }));
    assert!(check(&TensorFiles::open_folder(folder.path()).unwrap(), &tensors).unwrap_err().to_string().contains("b is in two files"));
    for (map, expected) in [(json!({ "a": "../x" }), "\"../x\"; files of the same folder"), (json!(5), "index.json: invalid type")] {
        index(map);
        let message = TensorFiles::open_folder(folder.path()).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_damaged_or_cut_file_is_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let tensors = example(&path);
    let whole = std::fs::read(&path).unwrap();
    for len in 0..whole.len() {
        std::fs::write(&path, &whole[..len]).unwrap();
        let message = TensorFiles::open(&path).unwrap_err().to_string();
        assert!(message.contains("x.safetensors: it is damaged or cut off at"), "{len}: {message}");
    }
    let header = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    for at in 0..8 + header {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 7);
        std::fs::write(&path, &damaged).unwrap();
        // Some damage only changes a name, which the check finds.
        if let Ok(file) = TensorFiles::open(&path) {
            let _ = check(&file, &tensors);
        }
    }
}
