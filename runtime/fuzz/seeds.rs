//! Writes the sound files that a fuzzer starts from: `seeds FOLDER`.

#[path = "../tests/damaged_files/sound.rs"]
mod sound;

use std::{env, fs, path::PathBuf};

fn main() -> std::io::Result<()> {
    let folder = PathBuf::from(env::args_os().nth(1).expect("seeds FOLDER"));
    fs::create_dir_all(&folder)?;
    for (number, bytes) in sound::files(tempfile::tempdir()?.path()).iter().enumerate() {
        fs::write(folder.join(format!("sound-{number}")), bytes)?;
    }
    Ok(())
}
