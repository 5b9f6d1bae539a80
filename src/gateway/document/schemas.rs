//! What the macros cannot say of a schema: examples, what is left out instead of null, and the form of a refusal.

use serde_json::{Value, json};

use crate::gateway::code::{ALL, Code};

/// An example of a schema, put together from those of its fields.
pub fn example_of(schema: &Value, schemas: &Value) -> Value {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return example_of(&schemas[name], schemas);
    }
    if let Some(given) = schema.get("example") {
        return given.clone();
    }
    if let Some(first) = schema["enum"].as_array().and_then(|words| words.first()) {
        return first.clone();
    }
    if let Some(properties) = schema["properties"].as_object() {
        return properties.iter().map(|(name, field)| (name.clone(), example_of(field, schemas))).collect();
    }
    match schema["type"].as_str() {
        Some("array") => json!([example_of(&schema["items"], schemas)]),
        Some("boolean") => json!(true),
        _ => Value::Null,
    }
}

/// Without null as its alternative.
pub fn only_itself(schema: &mut Value) {
    if let Some(only) = schema["oneOf"].as_array().and_then(|all| all.first()).cloned() {
        *schema = only;
    }
}

/// Without null beside it.
pub fn only_its_type(schema: &mut Value) {
    if let Some(types) = schema["type"].as_array() {
        schema["type"] = types.iter().find(|kind| *kind != "null").cloned().unwrap_or_default();
    }
}

/// A refusal as the document shows it.
pub fn example(code: Code) -> Value {
    let entry = code.entry();
    json!({"summary": entry.meaning, "value": {"success": false, "error": {
        "code": entry.word, "message": entry.meaning, "retryable": entry.retryable, "retryAfter": entry.retry_after,
        "requestId": "6b1f0c9d2e7a4f35",
    }}})
}

/// The form of every refusal.
pub fn failure_schema() -> Value {
    let words: Vec<&str> = ALL.iter().map(|entry| entry.word).collect();
    json!({
        "type": "object", "required": ["success", "error"], "description": "A refusal.",
        "properties": {
            "success": {"type": "boolean", "const": false, "description": "Always false."},
            "error": {
                "type": "object", "required": ["code", "message", "retryable", "retryAfter", "requestId"],
                "properties": {
                    "code": {"type": "string", "enum": words, "description": "Which of the closed list."},
                    "message": {"type": "string", "description": "One sentence for people."},
                    "retryable": {"type": "boolean", "description": "Whether the same request may succeed later."},
                    "retryAfter": {"type": ["integer", "null"], "minimum": 1, "description": "Seconds to wait, when that is known."},
                    "requestId": {"type": "string", "description": "Names the request, in logs too."},
                },
            },
        },
    })
}
