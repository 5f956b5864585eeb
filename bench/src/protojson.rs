//! JSON to the wire format and back, by the tables and by the dynamic path: nanoseconds a message, of one thread.

use std::{hint::black_box, time::Instant};

use anyhow::Context as _;
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};
use protojson::{Message, Schema, dynamic};

use crate::upstream;

#[derive(clap::Args)]
pub struct Run {
    /// Rounds; the median over them is reported.
    #[arg(long, default_value_t = 11)]
    rounds: usize,
    /// Milliseconds a round and way.
    #[arg(long, default_value_t = 100)]
    milliseconds: u64,
}

/// A message in both forms.
struct Subject {
    name: &'static str,
    message: Message,
    wire: Vec<u8>,
    json: Vec<u8>,
}

pub fn main(run: &Run) -> anyhow::Result<()> {
    let schema = Schema::new(&DescriptorPool::decode(proto::DESCRIPTORS)?);
    let subject = |name, full_name: &str, wire: Vec<u8>| {
        let message = schema.message(full_name).context("the descriptors lack a message")?;
        let mut json = Vec::new();
        message.write(&wire, &mut json)?;
        anyhow::Ok(Subject { name, message, wire, json })
    };
    let subjects = [
        subject("1 message", "shop.product.v1.Product", upstream::product(1).encode_to_vec())?,
        subject("50 messages", "shop.product.v1.ListProductsResponse", upstream::products().encode_to_vec())?,
    ];
    println!("| | bytes | tables, ns | dynamic, ns | ratio |\n|---|---:|---:|---:|---:|");
    for subject in &subjects {
        let Subject { name, message, wire, json } = subject;
        let descriptor = message.descriptor();
        let mut buffer = Vec::new();
        let read = compare(
            run,
            |buffer| message.read(json, buffer).is_ok(),
            |buffer| dynamic::read::message(descriptor, json).is_ok_and(|read| read.encode(buffer).is_ok()),
            &mut buffer,
        )?;
        report(&format!("JSON → wire, {name}"), json.len(), read);
        let written = compare(
            run,
            |buffer| message.write(wire, buffer).is_ok(),
            |buffer| {
                DynamicMessage::decode(descriptor.clone(), wire.as_slice())
                    .is_ok_and(|read| dynamic::write_message(&read, buffer).is_ok())
            },
            &mut buffer,
        )?;
        report(&format!("wire → JSON, {name}"), wire.len(), written);
    }
    Ok(())
}

fn report(name: &str, bytes: usize, (tables, dynamic): (f64, f64)) {
    println!("| {name} | {bytes} | {tables:.0} | {dynamic:.0} | {:.3} |", tables / dynamic);
}

/// Median nanoseconds of each, in turn.
fn compare(
    run: &Run,
    tables: impl Fn(&mut Vec<u8>) -> bool,
    dynamic: impl Fn(&mut Vec<u8>) -> bool,
    buffer: &mut Vec<u8>,
) -> anyhow::Result<(f64, f64)> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..run.rounds {
        ours.push(time(run, &tables, buffer)?);
        theirs.push(time(run, &dynamic, buffer)?);
    }
    Ok((median(&mut ours), median(&mut theirs)))
}

fn time(run: &Run, way: impl Fn(&mut Vec<u8>) -> bool, buffer: &mut Vec<u8>) -> anyhow::Result<f64> {
    let (begun, mut count) = (Instant::now(), 0_u32);
    while begun.elapsed().as_millis() < u128::from(run.milliseconds) {
        for _ in 0..32 {
            buffer.clear();
            anyhow::ensure!(way(black_box(buffer)), "the message is refused");
            black_box(&*buffer);
        }
        count += 32;
    }
    Ok(begun.elapsed().as_secs_f64() * 1e9 / f64::from(count))
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}
