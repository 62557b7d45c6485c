//! Devices that push with the same bytes until each push was answered 200, whatever the disk does meanwhile.

use super::Device;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

/// The push with this number: a new record, and one more change of the device's own.
pub fn bodies(device: &Device, push: u64) -> [String; 2] {
    let own = format!("{}-own", device.client_id);
    let set = json!({"n": push});
    let change = if push == 0 { device.create(1, &own, &set) } else { device.update(push * 2 + 1, &own, &set, push) };
    [change, device.create(push * 2 + 2, &format!("{}-{push}", device.client_id), &set)]
}

/// Pushes with the same bytes until each was answered 200; how often a push was answered 503.
async fn push_patiently(mut device: Device, pushes: std::ops::Range<u64>) -> u64 {
    let mut refused = 0;
    for push in pushes {
        device.first_push = push == 0;
        loop {
            let answer = device.push(&bodies(&device, push)).await;
            if answer.status == 200 {
                for result in answer.json()["results"].as_array().unwrap() {
                    assert_eq!(result["status"], "applied", "{result}");
                }
                break;
            }
            assert_eq!((answer.status, answer.code().as_str()), (503, "unavailable"), "{}", answer.json());
            assert_eq!(answer.header("retry-after"), Some("2"));
            refused += 1;
        }
    }
    refused
}

const DEVICES: usize = 6;
pub const PUSHES: u64 = 8;

pub fn device(address: SocketAddr, number: usize) -> Device {
    Device::new(address, "ada", &format!("c{number}"))
}

/// Every device sends these pushes, all at once; how many were refused meanwhile.
pub fn push_all(address: SocketAddr, pushes: std::ops::Range<u64>) -> Vec<tokio::task::JoinHandle<u64>> {
    (0..DEVICES).map(|number| tokio::spawn(push_patiently(device(address, number), pushes.clone()))).collect()
}

/// All devices' pushes up to `pushes` are there once, in records, changes and outcomes.
pub async fn assert_there_once(address: SocketAddr, pushes: u64) {
    let reader = device(address, 0);
    let rows = reader.stored().await;
    let mut versions: BTreeMap<String, Value> = BTreeMap::new();
    for row in rows {
        versions.insert(row["id"].as_str().unwrap().to_owned(), row["version"].clone());
    }
    let mut expected = BTreeMap::new();
    for number in 0..DEVICES {
        expected.insert(format!("c{number}-own"), json!(pushes));
        expected.extend((0..pushes).map(|push| (format!("c{number}-{push}"), json!(1))));
    }
    assert_eq!(versions, expected);
    let count = DEVICES as u64 * pushes * 2;
    assert_eq!(
        [reader.count("changes").await, reader.count("outcomes").await, reader.count("audit").await],
        [count; 3]
    );
}

pub fn assert_whole(data: &Path) {
    let connection = rusqlite::Connection::open(data.join("landfall.db")).unwrap();
    let word: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(word, "ok");
}
