//! The one prompt: the chat template that writes the training text is the one in the file that the runtime uses.
//!
//! Templates are Jinja, rendered by minijinja with Python's string methods, as Hugging Face tokenizers carry them.

use minijinja::{Environment, Error as JinjaError, ErrorKind, context};
use serde::{Deserialize, Serialize};

use crate::Error;

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
}

impl Message {
    /// What frames the conversation.
    pub fn system(content: impl Into<String>) -> Message {
        Message { role: "system".into(), content: content.into() }
    }

    /// What is asked.
    pub fn user(content: impl Into<String>) -> Message {
        Message { role: "user".into(), content: content.into() }
    }

    /// What is answered.
    pub fn assistant(content: impl Into<String>) -> Message {
        Message { role: "assistant".into(), content: content.into() }
    }
}

/// ChatML: each turn is `<|im_start|>role\ncontent<|im_end|>\n`.
const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// The only template of an environment.
const NAME: &str = "chat";

/// A template that is known to parse.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    source: String,
    environment: Environment<'static>,
}

impl ChatTemplate {
    /// The default: ChatML, whose marks every tokenizer that is trained here holds.
    pub fn chatml() -> ChatTemplate {
        ChatTemplate::parse(CHATML).expect("the default template parses")
    }

    /// For a tokenizer without a template and without ChatML's marks: each turn is `role:\ncontent\n`, the assistant's with `end` in it.
    pub fn plain(end: &str) -> ChatTemplate {
        let source = "{% for message in messages %}{{ message.role + ':\\n' + message.content }}\
            {% if message.role == 'assistant' %}{{ END }}{% endif %}{{ '\\n' }}{% endfor %}\
            {% if add_generation_prompt %}{{ 'assistant:\\n' }}{% endif %}";
        ChatTemplate::parse(&source.replace("END", &text(end))).expect("the plain template parses")
    }

    /// A template that is given tokens by name, as a tokenizer's configuration keeps them beside it. They are set at its beginning, so
    /// that it means the same wherever it is read.
    pub fn with_tokens(source: &str, tokens: &[(&str, &str)]) -> Result<ChatTemplate, Error> {
        let needed = tokens.iter().filter(|(name, _)| source.contains(name) && !source.contains(&format!("set {name}")));
        let set: String = needed.map(|(name, token)| format!("{{% set {name} = {} %}}", text(token))).collect();
        // A line's end after a statement is not written, so that the template's own first one would be lost.
        let line = if !set.is_empty() && source.starts_with('\n') { "\n" } else { "" };
        ChatTemplate::parse(&format!("{set}{line}{source}"))
    }

    /// A template from a tokenizer's configuration or a packed file.
    pub fn parse(source: &str) -> Result<ChatTemplate, Error> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<String, JinjaError> {
            Err(JinjaError::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_template_owned(NAME, source.to_owned()).map_err(|error| Error::Chat(format!("it does not parse: {error:#}")))?;
        Ok(ChatTemplate { source: source.to_owned(), environment })
    }

    /// The template's text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text of a conversation. With `open`, the assistant's turn is begun, so that a student goes on with its answer.
    pub fn render(&self, messages: &[Message], open: bool) -> Result<String, Error> {
        let template = self.environment.get_template(NAME).expect("the only template");
        let values = context! { messages => messages, add_generation_prompt => open, bos_token => "", eos_token => "" };
        template.render(values).map_err(|error| Error::Chat(format!("cannot render {} messages: {error:#}", messages.len())))
    }
}

/// A text as a template writes it.
fn text(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n"))
}

impl PartialEq for ChatTemplate {
    fn eq(&self, other: &ChatTemplate) -> bool {
        self.source == other.source
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chatml_is_as_published() {
        let chat = ChatTemplate::chatml();
        let messages = [Message::system("Be brief."), Message::user("2 + 2?")];
        let expected = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n";
        assert_eq!(chat.render(&messages, true).unwrap(), expected);
        let whole = chat.render(&[messages[1].clone(), Message::assistant("4")], false).unwrap();
        assert_eq!(whole, "<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n4<|im_end|>\n");
    }

    #[test]
    fn pythons_string_methods_work_as_published_templates_use_them() {
        let chat = ChatTemplate::parse("{% for m in messages[::-1] %}{{ m.content.strip().split('</think>')[-1] }}{% endfor %}").unwrap();
        assert_eq!(chat.render(&[Message::user(" <think>a</think>b ")], false).unwrap(), "b");
    }

    #[test]
    fn tokens_by_name_go_with_the_template() {
        let tokens = [("bos_token", "<|begin|>"), ("eos_token", "it's\\")];
        let messages = [Message::user("x")];
        for (source, expected) in [
            ("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}", "<|begin|>xit's\\"),
            ("\n{{ bos_token }}", "\n<|begin|>"),
            ("{{ messages[0].content }}", "x"),
        ] {
            let chat = ChatTemplate::with_tokens(source, &tokens).unwrap();
            assert_eq!(chat.render(&messages, false).unwrap(), expected);
            // Read again with the configuration beside it, nothing is added.
            assert_eq!(ChatTemplate::with_tokens(chat.source(), &tokens).unwrap(), chat);
        }
        assert_eq!(ChatTemplate::with_tokens("x", &tokens).unwrap().source(), "x");
    }

    #[test]
    fn the_plain_template_ends_a_turn_with_the_token() {
        let chat = ChatTemplate::plain("<|eot_id|>");
        let messages = [Message::user("2 + 2?"), Message::assistant("4")];
        assert_eq!(chat.render(&messages[..1], true).unwrap(), "user:\n2 + 2?\nassistant:\n");
        assert_eq!(chat.render(&messages, false).unwrap(), "user:\n2 + 2?\nassistant:\n4<|eot_id|>\n");
    }

    #[test]
    fn errors_say_what_the_template_said() {
        assert!(ChatTemplate::parse("{% for %}").unwrap_err().to_string().contains("does not parse"));
        let chat = ChatTemplate::parse("{{ raise_exception('roles must alternate') }}").unwrap();
        assert!(chat.render(&[], true).unwrap_err().to_string().contains("roles must alternate"));
    }
}
