//! YAML, with the place of each value.

use std::path::Path;
use std::sync::Arc;

use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};

use super::origin::{Origin, Place};
use super::{Failure, read, shown};

/// A value.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) origin: Origin,
    pub(super) value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Scalar(String),
    Map(Vec<(String, Node)>),
    List(Vec<Node>),
}

impl Node {
    /// What a mapping has under that key.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(all) => all.iter().find(|(name, _)| name == key).map(|(_, node)| node),
            _ => None,
        }
    }

    /// The text of a scalar.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(text) => Some(text),
            _ => None,
        }
    }

    /// The values of a list; a scalar is one of one.
    pub(super) fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(all) => all,
            _ => &[],
        }
    }

    /// Each scalar within, with the key before it.
    pub(super) fn each(&self, key: &str, tell: &mut impl FnMut(&str, &Node)) {
        match &self.value {
            Value::Scalar(_) => tell(key, self),
            // Nothing is within: it is told of itself.
            Value::Map(all) if all.is_empty() => tell(key, self),
            Value::List(all) if all.is_empty() => tell(key, self),
            Value::Map(all) => all.iter().for_each(|(key, node)| node.each(key, tell)),
            Value::List(all) => all.iter().for_each(|node| node.each(key, tell)),
        }
    }
}

/// The documents of a file.
pub(super) fn documents(path: &Path, id: &mut usize) -> Result<Vec<Node>, Failure> {
    let text = read(path)?;
    let file = shown(path);
    let parsed = MarkedYaml::load_from_str(&text).map_err(|error| Failure {
        file: file.to_string(),
        at: Some((error.marker().line(), error.marker().col() + 1)),
        what: format!("not YAML: {}", error.info()),
    })?;
    Ok(parsed.iter().map(|node| of(node, &file, id, 0)).collect())
}

const DEPTH_MAX: usize = 100;

fn of(node: &MarkedYaml<'_>, file: &Arc<str>, id: &mut usize, depth: usize) -> Node {
    *id += 1;
    let start = node.span.start;
    let place = Place { file: Arc::clone(file), line: start.line(), column: start.col() + 1 };
    let origin = Origin { place, with: Vec::new(), id: *id };
    let value = match &node.data {
        _ if depth > DEPTH_MAX => Value::Scalar("(deeper than 100)".into()),
        YamlData::Value(scalar) => Value::Scalar(scalar_text(scalar)),
        YamlData::Representation(text, ..) => Value::Scalar(text.to_string()),
        YamlData::Sequence(all) => {
            Value::List(all.iter().map(|one| of(one, file, id, depth + 1)).collect())
        }
        YamlData::Mapping(all) => {
            let pair = |(key, value): (&MarkedYaml<'_>, &MarkedYaml<'_>)| {
                let name = of(key, file, id, depth + 1);
                let mut node = of(value, file, id, depth + 1);
                if let Value::Scalar(_) = node.value {
                    // A statement stands where its key does.
                    node.origin.place = name.origin.place.clone();
                }
                (name.text().unwrap_or_default().to_owned(), node)
            };
            Value::Map(all.iter().map(pair).collect())
        }
        YamlData::Tagged(_, inner) => return of(inner, file, id, depth + 1),
        YamlData::Alias(_) | YamlData::BadValue => Value::Scalar(String::new()),
    };
    Node { origin, value }
}

fn scalar_text(scalar: &Scalar<'_>) -> String {
    match scalar {
        Scalar::Null => String::new(),
        Scalar::Boolean(boolean) => boolean.to_string(),
        Scalar::Integer(number) => number.to_string(),
        Scalar::FloatingPoint(number) => number.to_string(),
        Scalar::String(text) => text.to_string(),
    }
}
