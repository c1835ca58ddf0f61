//! The gRPC front, started and stopped from Python.

use std::time::Duration;

use onecard_core::Engine;
use pyo3::prelude::*;

/// A server that is listening.
#[pyclass(frozen, module = "onecard._core")]
pub struct Server {
    server: onecard_grpc::Server,
}

impl Server {
    /// Binds and serves; an error says why it cannot.
    pub fn start(engine: Engine, address: &str) -> Result<Server, String> {
        let server = onecard_grpc::serve(engine, address).map_err(|error| error.to_string())?;
        Ok(Server { server })
    }
}

#[pymethods]
impl Server {
    #[getter]
    fn address(&self) -> String {
        self.server.address().to_string()
    }

    fn stop(&self, py: Python<'_>, grace_s: f64) {
        let grace = Duration::try_from_secs_f64(grace_s).unwrap_or_default();
        py.detach(|| self.server.stop(grace));
    }

    fn wait(&self, py: Python<'_>, timeout_s: f64) -> bool {
        let timeout = Duration::try_from_secs_f64(timeout_s).unwrap_or_default();
        py.detach(|| self.server.wait(timeout))
    }
}
