//! A real Keystone and a real Glance on loopback, in a folder of their own, from the state that
//! `tests/clouds/prepare-openstack` makes. Dropping them ends both and removes the folder.
//!
//! There is one account (admin, in the project admin) and one region with both services in its
//! catalogue. The tests look at Glance through this client, never through the plugin.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{binaries, daemon};

/// The admin's password; must appear in no file and no log of a factory.
pub const PASSWORD: &str = "admin-secret";

/// Python programs that start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// What Glance takes at most, unless a test says otherwise.
const IMAGE_BYTES_MAX: u64 = 8 << 30;

/// Both servers.
pub struct OpenStackServers {
    /// Keystone's address, without `/v3`.
    pub keystone: SocketAddr,
    /// Glance's address.
    pub glance: SocketAddr,
    /// A token of the admin.
    pub token: String,
    /// The project admin.
    pub project: String,
    client: reqwest::Client,
    processes: Vec<Child>,
    folder: TempDir,
}

impl OpenStackServers {
    /// Starts both and waits until they answer.
    pub async fn start() -> OpenStackServers {
        OpenStackServers::start_with(IMAGE_BYTES_MAX).await
    }

    /// The same with a Glance that takes no larger image.
    pub async fn start_with(image_bytes_max: u64) -> OpenStackServers {
        let prepared = prepared().await;
        let folder = tempfile::Builder::new().prefix("openstack-").tempdir().expect("a folder");
        let copied = Command::new("cp")
            .arg("-a")
            .arg(prepared.join("."))
            .arg(folder.path())
            .status()
            .expect("cp");
        assert!(copied.success(), "the prepared state can be copied");
        let (keystone, glance) = (free_port(), free_port());
        write_configurations(folder.path(), (keystone, glance), image_bytes_max);
        let at = |name: &str| folder.path().join(name);
        let keystone_process = spawn(
            Command::new("keystone-wsgi-public")
                .args(["--host", "127.0.0.1", "--port", &keystone.port().to_string()])
                .args(["--", "--config-file"])
                .arg(at("keystone.conf")),
            &at("keystone.log"),
        );
        let glance_process = spawn(
            Command::new("glance-api").arg("--config-file").arg(at("glance.conf")),
            &at("glance.log"),
        );
        let mut servers = OpenStackServers {
            keystone,
            glance,
            token: String::new(),
            project: String::new(),
            client: daemon::client(),
            processes: vec![keystone_process, glance_process],
            folder,
        };
        servers.wait_for(&format!("http://{keystone}/v3"), "keystone.log").await;
        servers.log_in().await;
        servers.fill_catalogue().await;
        servers.wait_for(&format!("http://{glance}/healthcheck"), "glance.log").await;
        servers
    }

    /// A provider's definition; the address of Glance comes from the catalogue.
    pub fn provider(&self) -> Value {
        json!({ "auth_url": format!("http://{}/v3", self.keystone) })
    }

    /// The same with Glance at another address: a proxy's.
    pub fn provider_by(&self, glance_url: &str) -> Value {
        json!({
            "auth_url": format!("http://{}/v3", self.keystone), "image_endpoint": glance_url,
        })
    }

    /// The admin's credentials.
    pub fn credentials(&self) -> Value {
        json!({ "username": "admin", "password": PASSWORD, "project_name": "admin" })
    }

    /// All images that Glance shows.
    pub async fn images(&self) -> Vec<Value> {
        let listing = self.get_json("/v2/images").await;
        listing["images"].as_array().expect("a list").clone()
    }

    /// Glance's answer to a path, which must be JSON.
    pub async fn get_json(&self, path: &str) -> Value {
        let url = format!("http://{}{path}", self.glance);
        let answer = self.client.get(url).header("x-auth-token", &self.token).send().await;
        let answer = answer.expect("Glance answers");
        let (status, text) = (answer.status(), answer.text().await.expect("a body"));
        let log = || std::fs::read_to_string(self.folder.path().join("glance.log"));
        serde_json::from_str(&text)
            .unwrap_or_else(|_| panic!("{path}: {status} {text} {:?}", log()))
    }

    /// The content of an image, as Glance gives it out.
    pub async fn download(&self, id: &str) -> Vec<u8> {
        let url = format!("http://{}/v2/images/{id}/file", self.glance);
        let answer = self.client.get(url).header("x-auth-token", &self.token).send().await;
        let answer = answer.expect("Glance answers");
        assert_eq!(answer.status(), 200, "{id} has a content");
        answer.bytes().await.expect("a body").to_vec()
    }

    /// An empty raw image of nobody's; answers its id.
    pub async fn create_image(&self) -> String {
        let body = json!({ "name": "empty", "disk_format": "raw", "container_format": "bare" });
        let url = format!("http://{}/v2/images", self.glance);
        let request = self.client.post(url).header("x-auth-token", &self.token).json(&body);
        let image: Value =
            request.send().await.expect("Glance answers").json().await.expect("JSON");
        image["id"].as_str().expect("an id").to_owned()
    }

    /// The folder of everything of theirs, logs included.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    async fn log_in(&mut self) {
        let body = json!({ "auth": {
            "identity": { "methods": ["password"], "password": { "user": {
                "name": "admin", "domain": { "id": "default" }, "password": PASSWORD } } },
            "scope": { "project": { "name": "admin", "domain": { "id": "default" } } },
        } });
        let url = format!("http://{}/v3/auth/tokens", self.keystone);
        let answer = self.client.post(url).json(&body).send().await.expect("Keystone answers");
        assert_eq!(answer.status(), 201, "the admin can log in");
        let token = answer.headers()["x-subject-token"].to_str().expect("a token").to_owned();
        let answer: Value = answer.json().await.expect("JSON");
        self.project = answer["token"]["project"]["id"].as_str().expect("a project").to_owned();
        self.token = token;
    }

    /// Ports are others each time, so the catalogue learns of both servers now. Glance looks for
    /// Keystone's internal address there.
    async fn fill_catalogue(&self) {
        let services = [
            ("identity", "internal", format!("http://{}/v3", self.keystone)),
            ("image", "public", format!("http://{}", self.glance)),
        ];
        for (kind, interface, url) in services {
            let service = json!({ "service": { "name": kind, "type": kind } });
            let service = self.keystone_post("/v3/services", &service).await;
            let endpoint = json!({ "endpoint": {
                "service_id": service["service"]["id"], "interface": interface,
                "region_id": "RegionOne", "url": url,
            } });
            self.keystone_post("/v3/endpoints", &endpoint).await;
        }
    }

    /// A POST that Keystone must grant.
    pub async fn keystone_post(&self, path: &str, body: &Value) -> Value {
        let url = format!("http://{}{path}", self.keystone);
        let request = self.client.post(url).header("x-auth-token", &self.token).json(body);
        let answer = request.send().await.expect("Keystone answers");
        let (status, text) = (answer.status(), answer.text().await.expect("a body"));
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    /// What Keystone says of the admin's own token, or anything else.
    pub async fn keystone_get(&self, path: &str) -> Value {
        let url = format!("http://{}{path}", self.keystone);
        let request = self.client.get(url).header("x-auth-token", &self.token);
        let answer = request.header("x-subject-token", &self.token).send().await;
        answer.expect("Keystone answers").json().await.expect("JSON")
    }

    async fn wait_for(&mut self, url: &str, log: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = self.client.get(url).timeout(Duration::from_secs(5)).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            let told = || std::fs::read_to_string(self.folder.path().join(log)).unwrap_or_default();
            assert!(Instant::now() < until, "{url} never answers:\n{}", told());
            for process in &mut self.processes {
                let ended = process.try_wait().expect("our child");
                assert!(ended.is_none(), "it ended ({ended:?}):\n{}", told());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for OpenStackServers {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // Errors mean that it ended before.
            process.kill().ok();
            process.wait().ok();
        }
    }
}

/// The state to start from; made at the first call on this machine.
async fn prepared() -> PathBuf {
    let script = binaries::workspace().join("tests/clouds/prepare-openstack");
    let made = tokio::task::spawn_blocking(move || Command::new(script).output());
    let made = made.await.expect("no panic").expect("the script starts");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    PathBuf::from(String::from_utf8(made.stdout).expect("a path").trim())
}

/// Free at this moment; the servers can be told a port and nothing else.
fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address")
}

fn spawn(command: &mut Command, log: &Path) -> Child {
    let log = std::fs::File::create(log).expect("a log");
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a descriptor"))
        .stderr(log)
        // Python libraries that look for proxies would not find loopback.
        .env_remove("http_proxy")
        .env_remove("https_proxy")
        .spawn()
        .expect("the server starts; tests/clouds/install-servers installs it")
}

fn write_configurations(
    folder: &Path,
    (keystone, glance): (SocketAddr, SocketAddr),
    image_bytes_max: u64,
) {
    let at = folder.display();
    let keystone_conf = format!(
        "[DEFAULT]\nlog_dir =\n[database]\nconnection = sqlite:///{at}/keystone.db?timeout=60\n\
         [token]\nprovider = fernet\n[fernet_tokens]\nkey_repository = {at}/fernet\n\
         [credential]\nkey_repository = {at}/credential\n"
    );
    let port = glance.port();
    let glance_conf = format!(
        "[DEFAULT]\nlog_dir =\nbind_host = 127.0.0.1\nbind_port = {port}\nworkers = 0\n\
         enabled_backends = store:file\nenabled_import_methods = [glance-direct,web-download]\n\
         node_staging_uri = file://{at}/staging\nimage_size_cap = {image_bytes_max}\n\
         [database]\nconnection = sqlite:///{at}/glance.db?timeout=60\n\
         [glance_store]\ndefault_backend = store\n\
         [store]\nfilesystem_store_datadir = {at}/images\n\
         [os_glance_staging_store]\nfilesystem_store_datadir = {at}/staging\n\
         [os_glance_tasks_store]\nfilesystem_store_datadir = {at}/tasks\n\
         [import_filtering_opts]\nallowed_ports = []\n\
         [keystone_authtoken]\nwww_authenticate_uri = http://{keystone}\n\
         auth_url = http://{keystone}\nauth_type = password\nproject_domain_id = default\n\
         user_domain_id = default\nproject_name = admin\nusername = admin\n\
         password = {PASSWORD}\n\
         [paste_deploy]\nflavor = keystone\nconfig_file = /etc/glance/glance-api-paste.ini\n\
         [oslo_policy]\npolicy_file = policy.yaml\n"
    );
    std::fs::write(folder.join("keystone.conf"), keystone_conf).expect("it can be written");
    std::fs::write(folder.join("glance.conf"), glance_conf).expect("it can be written");
}
