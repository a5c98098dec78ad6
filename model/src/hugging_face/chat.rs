//! The chat template of a Hugging Face folder, wherever in it that stands.

use std::{fs, io::ErrorKind, path::Path};

use serde_json::Value;

use crate::{ChatTemplate, Error, Tokenizer};

/// The newer place of the template.
pub const CHAT_TEMPLATE: &str = "chat_template.jinja";
/// The tokenizer's settings, which are the older place.
pub const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// A folder's chat template, with the tokens that it speaks of by name set in it. For a folder without one: ChatML where the tokenizer
/// knows its marks, else [`ChatTemplate::plain`].
pub fn chat_template(folder: &Path, tokenizer: &Tokenizer) -> Result<ChatTemplate, Error> {
    let path = folder.join(TOKENIZER_CONFIG);
    let refuse = |found: String| Error::HuggingFace { path: path.clone(), found };
    let settings: Value = match read(&path)? {
        Some(text) => serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))?,
        None => Value::Null,
    };
    let source = match read(&folder.join(CHAT_TEMPLATE))? {
        Some(source) => Some(source),
        None => in_settings(&settings["chat_template"]).map_err(refuse)?,
    };
    let Some(source) = source else {
        let knows_chatml = ["<|im_start|>", "<|im_end|>"].into_iter().all(|mark| tokenizer.token(mark).is_some());
        let plain = || ChatTemplate::plain(&tokenizer.token_text(tokenizer.end_of_turn()));
        return Ok(if knows_chatml { ChatTemplate::chatml() } else { plain() });
    };
    // A token is written as a text, or as an object with its text in it.
    let token = |name| settings[name]["content"].as_str().or(settings[name].as_str()).map(|text| (name, text));
    let tokens: Vec<(&str, &str)> = ["bos_token", "eos_token", "pad_token", "unk_token"].into_iter().filter_map(token).collect();
    ChatTemplate::with_tokens(&source, &tokens)
}

/// A text, or a list of named texts of which one is the default.
fn in_settings(value: &Value) -> Result<Option<String>, String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match value {
        Value::Null => Ok(None),
        Value::Array(named) => {
            let default = named.iter().find(|template| template["name"] == "default").and_then(|template| text(&template["template"]));
            let names: Vec<&str> = named.iter().filter_map(|template| template["name"].as_str()).collect();
            default.map(Some).ok_or_else(|| format!("chat_template has {}; one named default was needed", names.join(", ")))
        }
        other => text(other).map(Some).ok_or_else(|| "chat_template is neither a text nor a list of them".to_owned()),
    }
}

/// The text of a file, if it is there.
fn read(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::File { doing: "read", path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Message;

    #[test]
    fn the_template_is_found_wherever_it_stands() {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = Tokenizer::train(std::iter::empty(), 300).unwrap();
        let found = || chat_template(folder.path(), &tokenizer);
        let settings = |value: Value| fs::write(folder.path().join(TOKENIZER_CONFIG), value.to_string()).unwrap();
        assert_eq!(found().unwrap(), ChatTemplate::chatml());
        settings(json!({ "bos_token": { "content": "<s>" }, "eos_token": null, "chat_template": "{{ bos_token }}a" }));
        assert_eq!(found().unwrap().render(&[Message::user("x")], false).unwrap(), "<s>a");
        settings(json!({ "chat_template": [{ "name": "tools", "template": "t" }, { "name": "default", "template": "d" }] }));
        assert_eq!(found().unwrap().source(), "d");
        for wrong in [json!([{ "name": "tools", "template": "t" }]), json!(5)] {
            settings(json!({ "chat_template": wrong }));
            let message = found().unwrap_err().to_string();
            assert!(message.contains("tokenizer_config.json: chat_template "), "{message}");
        }
        fs::write(folder.path().join(CHAT_TEMPLATE), "file").unwrap();
        assert_eq!(found().unwrap().source(), "file");
    }

    #[test]
    fn a_tokenizer_without_chatmls_marks_has_a_plain_template() {
        let text = Tokenizer::train(std::iter::empty(), 300).unwrap().to_json();
        let tokenizer = Tokenizer::from_json(&text.replace("<|im_start|>", "<|other|>")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(chat_template(folder.path(), &tokenizer).unwrap(), ChatTemplate::plain("<|im_end|>"));
    }
}
