//! Scripts: what a server does in one step.

use super::link::Handle;
use redis::{Cmd, ErrorKind, FromRedisValue, RedisResult, Script, ServerErrorKind};

/// A script of ours.
pub(super) struct Lua {
    code: &'static str,
    hash: String,
}

impl Lua {
    pub(super) fn new(code: &'static str) -> Self {
        Self { code, hash: Script::new(code).get_hash().to_owned() }
    }
}

/// A script and what it is called with.
pub(super) struct Call<'a> {
    script: &'a Lua,
    keys: Vec<String>,
    arguments: Vec<Vec<u8>>,
}

impl<'a> Call<'a> {
    pub(super) fn new(script: &'a Lua) -> Self {
        Self { script, keys: Vec::new(), arguments: Vec::new() }
    }

    pub(super) fn key(mut self, key: String) -> Self {
        self.keys.push(key);
        self
    }

    pub(super) fn arg(mut self, argument: impl redis::ToRedisArgs) -> Self {
        argument.write_redis_args(&mut self.arguments);
        self
    }
}

impl Call<'_> {
    /// By which a cluster finds the server.
    pub(super) fn first_key(&self) -> &str {
        self.keys.first().map_or("", String::as_str)
    }

    pub(super) async fn run<T: FromRedisValue>(&self, handle: &mut Handle) -> RedisResult<T> {
        let done = self.command("EVALSHA", &self.script.hash).query_async(handle).await;
        match done {
            // It was started anew, or another one has taken over: the script goes with the call.
            Err(fault) if fault.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.command("EVAL", self.script.code).query_async(handle).await
            }
            done => done,
        }
    }

    fn command(&self, verb: &str, script: &str) -> Cmd {
        let mut command = redis::cmd(verb);
        command.arg(script).arg(self.keys.len()).arg(&self.keys).arg(&self.arguments);
        command
    }
}
