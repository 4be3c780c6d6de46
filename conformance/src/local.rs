//! A broker of this machine, started to be asked, in a folder of its own, and stopped afterwards.

use crate::Fault;
use crate::case::Case;
use crate::issuers::Issuers;
use crate::profile::{self, Profile};
use crate::report::Report;
use crate::run;
use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const PROFILE: &str = include_str!("../profiles/countersign.toml");
const CONFIGURATION: &str = include_str!("../profiles/countersign.server.toml");
const POLICY: &str = include_str!("../profiles/countersign.cedar");

/// Asks the broker that `program` is.
pub(crate) async fn run(program: &Path, cases: &[Case], only: Option<&str>) -> Result<Report, Fault> {
    let program = program.canonicalize().map_err(|fault| format!("{}: {fault}", program.display()))?;
    let [server, issuers_at] = [free()?, free()?];
    let profile: Profile = toml::from_str(&PROFILE.replace("@SERVER@", &server).replace("@ISSUERS@", &issuers_at))?;
    let issuers = Issuers::new(&profile.listen)?;
    issuers.serve(TcpListener::bind(&profile.listen)?)?;
    let place = Place::create()?;
    place.write("policies/conformance.cedar", POLICY)?;
    for name in ["spiffe", "client"] {
        let set = issuers.by_name.get(name).map(|issuer| issuer.set.to_string()).unwrap_or_default();
        place.write(&format!("{name}.jwks"), &set)?;
    }
    let mut configuration = CONFIGURATION.replace("@SERVER@", &server);
    for name in profile.issuers.iter().filter(|name| *name != "spiffe") {
        let iss = issuers.issuer(name);
        write!(
            configuration,
            "\n[[issuers]]\nname = \"{name}\"\nkind = \"oidc\"\nissuer = \"{iss}\"\naudiences = [\"http://{server}\"]\nallow_private_addresses = true\n\
             algorithms = [\"RS256\", \"ES256\"]\n"
        )?;
    }
    place.write("countersign.toml", &configuration)?;
    let mut command = Command::new(program);
    command
        .args(["serve", "--config"])
        .arg(place.0.join("countersign.toml"))
        .args(["--log", "error"])
        .stdout(Stdio::null());
    let mut broker = Running(command.spawn()?);
    wait(&mut broker.0, &profile).await?;
    run::with(&profile, &issuers, cases, only).await
}

/// A port that nobody listens on.
fn free() -> Result<String, Fault> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

async fn wait(broker: &mut Child, profile: &profile::Profile) -> Result<(), Fault> {
    let address = profile.issuer.trim_start_matches("http://").to_owned();
    for _ in 0..200 {
        if let Some(status) = broker.try_wait()? {
            return Err(format!("the broker ended with {status}").into());
        }
        if tokio::net::TcpStream::connect(&address).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err("the broker did not listen within ten seconds".into())
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder of the run's own, gone when it ends.
struct Place(PathBuf);

impl Place {
    fn create() -> Result<Self, Fault> {
        let path = std::env::temp_dir().join(format!("countersign-conformance-{}", std::process::id()));
        std::fs::create_dir_all(path.join("policies"))?;
        Ok(Self(path))
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Fault> {
        Ok(std::fs::write(self.0.join(name), text)?)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
