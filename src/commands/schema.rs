//! `handoff schema`: the formats as JSON Schema and AsyncAPI, and the definition of a tool for
//! language models.
//!
//! The documents are kept by hand in `schemas/`; a test compares them with the types that the
//! service reads and writes.

use anyhow::anyhow;
use serde_json::Value;

use super::{Failure, print};

const ESCALATION: &str = include_str!("../../schemas/escalation.schema.json");
const OUTCOME: &str = include_str!("../../schemas/outcome.schema.json");
const DEAD_LETTER: &str = include_str!("../../schemas/dead-letter.schema.json");
const ASYNCAPI: &str = include_str!("../../schemas/asyncapi.json");
const TOOL: &str = include_str!("../../schemas/tool.json");
const STATUS: &str = include_str!("../../schemas/status.schema.json");

const EXAMPLES: &str = "\
Examples:
  handoff schema escalation >escalation.schema.json
  handoff schema tool | jq '{type: \"function\", function: .}'
      As the APIs of OpenAI and compatible ones take it.
  handoff schema tool | jq '{name, description, input_schema: .parameters}'
      As the API of Anthropic takes it; inputSchema instead for MCP.

A bot that calls the tool publishes its arguments as they are to the escalations topic, with the
session id as the key of the record. It must set session_id itself: a model may invent one.";

/// Print a format: JSON Schema 2020-12, AsyncAPI 3.1, or a tool for language models
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SchemaArgs {
    /// Which one
    #[arg(value_enum)]
    format: SchemaFormat,
}

/// The formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum SchemaFormat {
    /// What the service reads
    Escalation,
    /// What it publishes
    Outcome,
    /// The headers of what it cannot read
    DeadLetter,
    /// All of them with their topics
    Asyncapi,
    /// A tool for language models whose arguments are an escalation
    Tool,
    /// What `/status` of the admin port answers
    Status,
}

/// Prints a document.
pub(crate) fn run(args: &SchemaArgs) -> Result<(), Failure> {
    match args.format {
        SchemaFormat::Escalation => print(ESCALATION.as_bytes()),
        SchemaFormat::Outcome => print(OUTCOME.as_bytes()),
        SchemaFormat::DeadLetter => print(DEAD_LETTER.as_bytes()),
        SchemaFormat::Tool => print(TOOL.as_bytes()),
        SchemaFormat::Status => print(STATUS.as_bytes()),
        SchemaFormat::Asyncapi => {
            let document = bundled().map_err(Failure::Bug)?;
            print(format!("{document:#}\n").as_bytes())
        }
    }
}

/// The AsyncAPI document with the schemas in it, so that it needs no other file.
fn bundled() -> anyhow::Result<Value> {
    let mut document: Value = serde_json::from_str(ASYNCAPI)?;
    let schemas = document.pointer_mut("/components/schemas").and_then(Value::as_object_mut);
    for schema in schemas.ok_or_else(|| anyhow!("no schemas"))?.values_mut() {
        *schema = match schema["$ref"].as_str() {
            Some("escalation.schema.json") => embedded(ESCALATION)?,
            Some("outcome.schema.json") => embedded(OUTCOME)?,
            Some("dead-letter.schema.json") => embedded(DEAD_LETTER)?,
            other => return Err(anyhow!("unknown schema {other:?}")),
        };
    }
    Ok(document)
}

/// A schema as a part of another document, which says itself what dialect it is in.
fn embedded(schema: &str) -> anyhow::Result<Value> {
    let mut schema: Value = serde_json::from_str(schema)?;
    if let Some(schema) = schema.as_object_mut() {
        schema.remove("$schema");
        schema.remove("$id");
    }
    Ok(schema)
}
