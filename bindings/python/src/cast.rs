//! What an engine runs: the handlers, templates and static jobs that Python has registered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use unified_scheduler::{Handler, JobDefinition, JobId, Registry, Result, SchedulerBuilder, StaticJob};

use crate::handler::{PythonHandler, PythonTemplate};

#[derive(Clone)]
pub(crate) enum Part {
    Handler(PythonHandler),
    Template(Box<PythonTemplate>),
}

impl Part {
    fn handler(&self) -> Arc<dyn Handler> {
        match self {
            Self::Handler(handler) => Arc::new(handler.clone()),
            Self::Template(template) => Arc::new(template.handler.clone()),
        }
    }

    fn enter(&self, name: &str, registry: &Registry) -> Result<()> {
        match self {
            Self::Handler(handler) => {
                registry.handler(name, handler.clone());
                Ok(())
            }
            Self::Template(template) => registry.template(Arc::new((**template).clone())).map(drop),
        }
    }
}

/// All of them. What is here is entered into every scheduler that starts.
#[derive(Default)]
pub(crate) struct Cast {
    parts: Mutex<BTreeMap<String, Part>>,
    statics: Mutex<Vec<JobDefinition>>,
    /// Those that come with the facade, and ours: for questions that are asked without a scheduler.
    registry: Arc<Registry>,
}

impl Cast {
    fn parts(&self) -> MutexGuard<'_, BTreeMap<String, Part>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Adds one, also to the registry of a scheduler that runs.
    pub(crate) fn add(&self, name: &str, part: Part, running: Option<&Registry>) -> Result<()> {
        part.enter(name, &self.registry)?;
        if let Some(registry) = running {
            part.enter(name, registry)?;
        }
        self.parts().insert(name.to_owned(), part);
        Ok(())
    }

    pub(crate) fn remove(&self, name: &str, running: Option<&Registry>) -> bool {
        self.registry.remove(name);
        if let Some(registry) = running {
            registry.remove(name);
        }
        let mut statics = self.statics.lock().unwrap_or_else(PoisonError::into_inner);
        statics.retain(|job| JobId::of_static(&job.name).as_str() != name);
        drop(statics);
        self.parts().remove(name).is_some()
    }

    /// Adds a static job, in place of the one of the same name.
    pub(crate) fn add_static(&self, definition: JobDefinition) {
        let mut statics = self.statics.lock().unwrap_or_else(PoisonError::into_inner);
        statics.retain(|job| job.name != definition.name);
        statics.push(definition);
    }

    /// The static job of this definition, if its function is registered.
    pub(crate) fn static_job(&self, definition: JobDefinition) -> Option<StaticJob> {
        let handler = self.parts().get(JobId::of_static(&definition.name).as_str())?.handler();
        Some(StaticJob::of(definition, handler))
    }

    /// Enters everything.
    pub(crate) fn enter(&self, mut builder: SchedulerBuilder) -> SchedulerBuilder {
        for (name, part) in self.parts().iter() {
            builder = match part {
                Part::Handler(handler) => builder.handler(name.clone(), handler.clone()),
                Part::Template(template) => builder.template((**template).clone()),
            };
        }
        let statics = self.statics.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for job in statics.into_iter().filter_map(|job| self.static_job(job)) {
            builder = builder.job(job);
        }
        builder
    }

    /// Enters what came while a scheduler started.
    pub(crate) fn enter_again(&self, registry: &Registry) -> Result<()> {
        self.parts().iter().try_for_each(|(name, part)| part.enter(name, registry))
    }
}
