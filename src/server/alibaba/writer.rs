//! Writes the fields of an answer, as JSON or as XML, straight into the bytes that are sent.

use std::io;

use base64::{Engine, engine::general_purpose::STANDARD};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::Format;
use crate::server::Reply;

/// Room for what stands around the values, so that most answers never grow.
const ROOM: usize = 512;

/// Bytes that are wiped also when they have to move to a larger place.
struct WipedBytes(Zeroizing<Vec<u8>>);

impl WipedBytes {
    fn put(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    /// Makes room. A vector that grows by itself would leave a copy behind.
    fn reserve(&mut self, more: usize) {
        if self.0.capacity() - self.0.len() >= more {
            return;
        }
        let mut larger = Zeroizing::new(Vec::with_capacity(2 * (self.0.len() + more)));
        larger.extend_from_slice(&self.0);
        self.0 = larger;
    }

    fn put_base64(&mut self, bytes: &[u8]) {
        let length = bytes.len().div_ceil(3) * 4;
        self.reserve(length);
        let start = self.0.len();
        self.0.resize(start + length, 0);
        if let Some(place) = self.0.get_mut(start..) {
            // The place has the exact length, which is the only thing that can be wrong.
            let written = STANDARD.encode_slice(bytes, place).unwrap_or_default();
            self.0.truncate(start + written);
        }
    }
}

impl io::Write for WipedBytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An answer that is being written. What is described once, field by field, becomes either form.
pub(super) struct Writer {
    format: Format,
    out: WipedBytes,
    /// The next JSON field is the first of its object.
    first: bool,
}

impl Writer {
    /// A whole answer: `fields`, and the request's id after them.
    pub(super) fn answer(
        format: Format,
        status: hyper::StatusCode,
        request_id: Uuid,
        fields: impl FnOnce(&mut Self),
    ) -> Reply {
        let out = WipedBytes(Zeroizing::new(Vec::with_capacity(ROOM)));
        let mut writer = Self { format, out, first: true };
        writer.put(match format {
            Format::Json => "{",
            Format::Xml => "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<KMS>",
        });
        fields(&mut writer);
        writer.text("RequestId", request_id.as_hyphenated().encode_lower(&mut Uuid::encode_buffer()));
        writer.put(match format {
            Format::Json => "}",
            Format::Xml => "</KMS>",
        });
        Reply { status, content_type: format.content_type(), body: writer.out.0 }
    }

    /// A text.
    pub(super) fn text(&mut self, name: &'static str, value: &str) {
        self.field(name, |writer| match writer.format {
            Format::Json => json_text(&mut writer.out, value),
            Format::Xml => xml_text(&mut writer.out, value),
        });
    }

    /// A UUID.
    pub(super) fn uuid(&mut self, name: &'static str, value: Uuid) {
        self.text(name, value.as_hyphenated().encode_lower(&mut Uuid::encode_buffer()));
    }

    /// A number.
    pub(super) fn number(&mut self, name: &'static str, value: usize) {
        self.field(name, |writer| writer.put(&value.to_string()));
    }

    /// Bytes, in base64.
    pub(super) fn base64(&mut self, name: &'static str, value: &[u8]) {
        self.field(name, |writer| match writer.format {
            Format::Json => {
                writer.put("\"");
                writer.out.put_base64(value);
                writer.put("\"");
            }
            Format::Xml => writer.out.put_base64(value),
        });
    }

    /// An object with fields of its own.
    pub(super) fn object(&mut self, name: &'static str, fields: impl FnOnce(&mut Self)) {
        self.field(name, |writer| writer.braced(fields));
    }

    /// A list: in JSON an array in an object, in XML an element for each item.
    pub(super) fn list<T>(
        &mut self,
        name: &'static str,
        item: &'static str,
        items: impl IntoIterator<Item = T>,
        fields: impl Fn(&mut Self, T),
    ) {
        self.object(name, |writer| match writer.format {
            Format::Json => writer.field(item, |writer| {
                writer.put("[");
                for (index, one) in items.into_iter().enumerate() {
                    writer.put(if index == 0 { "" } else { "," });
                    writer.braced(|writer| fields(writer, one));
                }
                writer.put("]");
            }),
            Format::Xml => items.into_iter().for_each(|one| writer.object(item, |writer| fields(writer, one))),
        });
    }

    fn field(&mut self, name: &'static str, value: impl FnOnce(&mut Self)) {
        match self.format {
            Format::Json => {
                self.put(if self.first { "\"" } else { ",\"" });
                self.put(name);
                self.put("\":");
                value(self);
                self.first = false;
            }
            Format::Xml => {
                for part in ["<", name, ">"] {
                    self.put(part);
                }
                value(self);
                for part in ["</", name, ">"] {
                    self.put(part);
                }
            }
        }
    }

    fn braced(&mut self, fields: impl FnOnce(&mut Self)) {
        if self.format == Format::Xml {
            return fields(self);
        }
        self.put("{");
        self.first = true;
        fields(self);
        self.first = false;
        self.put("}");
    }

    fn put(&mut self, text: &str) {
        self.out.put(text.as_bytes());
    }
}

fn json_text(out: &mut WipedBytes, value: &str) {
    // Neither a text nor memory refuses anything.
    #[allow(clippy::expect_used)]
    serde_json::to_writer(out, value).expect("a text has a JSON form");
}

/// Escapes text for XML 1.0 (section 2.2 and 2.11): a carriage return would be read as a line feed, and most control
/// characters have no form at all; U+FFFD stands for them.
fn xml_text(out: &mut WipedBytes, value: &str) {
    let mut written = 0;
    for (at, character) in value.char_indices() {
        let escaped = match character {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            '"' => "&quot;",
            '\'' => "&apos;",
            '\r' => "&#13;",
            '\n' | '\t' => continue,
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => "\u{fffd}",
            _ => continue,
        };
        out.put(value.get(written..at).unwrap_or_default().as_bytes());
        out.put(escaped.as_bytes());
        written = at + character.len_utf8();
    }
    out.put(value.get(written..).unwrap_or_default().as_bytes());
}
