//! EC2Cloud against moto, another author's EC2: pushed by REST from a template in one order, read
//! back through the EBS direct APIs by boto3, compared bit by bit.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::rig::{credentials, daemon};
use imagefactory_tests::binaries;
use imagefactory_tests::factory::TDL_MOCK;
use serde_json::json;

/// moto's server; ends when it is dropped.
struct Moto {
    process: Child,
    url: String,
    venv: PathBuf,
}

impl Moto {
    async fn start() -> Moto {
        let clouds = binaries::workspace().join("tests/clouds");
        let made = Command::new(clouds.join("make-venv")).output().expect("make-venv starts");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let venv = PathBuf::from(String::from_utf8(made.stdout).unwrap().trim());
        // moto takes no port 0.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new(venv.join("bin/moto_server"))
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("moto_server starts");
        let url = format!("http://127.0.0.1:{port}");
        let moto = Moto { process, url, venv };
        let started = Instant::now();
        let client = imagefactory_tests::daemon::client();
        while client.get(format!("{}/moto-api/", moto.url)).send().await.is_err() {
            assert!(started.elapsed() < Duration::from_secs(120), "moto does not start");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        moto
    }

    /// The snapshot's blocks in a file; answers how many there were.
    fn read_back(&self, snapshot: &str, file: &Path) -> u64 {
        let script = binaries::workspace().join("tests/clouds/read_snapshot.py");
        let read = Command::new(self.venv.join("bin/python"))
            .arg(script)
            .args([&self.url, "us-east-1", snapshot])
            .arg(file)
            .output()
            .expect("python starts");
        assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
        String::from_utf8(read.stdout).unwrap().trim().parse().unwrap()
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_order_from_a_template_is_an_image_whose_snapshot_is_the_target_image() {
    let moto = Moto::start().await;
    let daemon = daemon();
    let provider = json!({"name": "ec2-us-east-1", "endpoint": moto.url});
    let body = json!({"provider_image": {"target": "ec2", "template": TDL_MOCK,
        "provider": provider, "credentials": credentials(),
        "parameters": {"mock_size_bytes": 3 << 20, "ec2_launch_permissions": "210987654321"}}});
    let order = daemon.order("/imagefactory/provider_images", &body).await;
    let id = order["id"].as_str().unwrap();
    let image = daemon.finished(id).await;
    assert_eq!(image["status"], "COMPLETE", "{image:#}");
    let ami = image["identifier_on_provider"].as_str().unwrap();
    assert!(ami.starts_with("ami-"), "{ami}");

    let snapshot = image["properties"]["ec2_snapshot"].as_str().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    let blocks = moto.read_back(snapshot, &disk);
    let target = daemon.wait(id, |image| image["target_image_id"].is_string()).await;
    let target = target["target_image_id"].as_str().unwrap();
    let body = std::fs::read(daemon.storage().join(format!("{target}.body"))).unwrap();
    let data = body.chunks(512 << 10).filter(|block| block.iter().any(|byte| *byte != 0)).count();
    assert!(blocks >= 1 && blocks <= data as u64, "{blocks} blocks of {data} with data");
    let compared = Command::new("cmp")
        .args(["--bytes", &body.len().to_string()])
        .arg(&disk)
        .arg(daemon.storage().join(format!("{target}.body")))
        .status()
        .unwrap();
    assert!(compared.success(), "the disk differs from the target image");
    assert_eq!(std::fs::metadata(&disk).unwrap().len(), 1 << 30);

    let path = format!("/imagefactory/provider_images/{id}");
    let request = daemon.request(reqwest::Method::DELETE, &path);
    let answer = request.json(&json!({"credentials": credentials()})).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    daemon.gone(id).await;
    let list = Command::new(moto.venv.join("bin/python"))
        .args(["-c", LIST_OWN, &moto.url])
        .output()
        .unwrap();
    let left = String::from_utf8_lossy(&list.stdout).into_owned();
    assert_eq!(left.trim(), "[] []", "{}", String::from_utf8_lossy(&list.stderr));
}

/// Images and snapshots of ours that moto still has; it has some of its own from the start.
const LIST_OWN: &str = "
import sys, boto3
ec2 = boto3.client('ec2', endpoint_url=sys.argv[1], region_name='us-east-1',
                   aws_access_key_id='reader', aws_secret_access_key='reader')
tagged = [{'Name': 'tag-key', 'Values': ['imagefactory:stage']}]
print([i['ImageId'] for i in ec2.describe_images(Filters=tagged)['Images']],
      [s['SnapshotId'] for s in ec2.describe_snapshots(Filters=tagged)['Snapshots']])
";
