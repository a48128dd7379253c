//! PostgreSQL's functions about itself that datafusion-pg-catalog lacks, or answers without knowing who asks.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, StringArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility};
use datafusion::prelude::SessionContext;
use parking_lot::Mutex;

use crate::postgres::settings::{Effect, SERVER_VERSION, Settings};

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) user: String,
    pub(crate) pid: i32,
    pub(crate) settings: Arc<Mutex<Settings>>,
}

/// What `version()` says, in the form that clients take a number from.
fn version() -> String {
    format!("PostgreSQL {SERVER_VERSION} (Volley {})", env!("CARGO_PKG_VERSION"))
}

/// Registers all of them.
pub(super) fn register(context: &SessionContext, identity: &Identity) {
    let text = |value: &str| ScalarValue::Utf8(Some(value.to_owned()));
    let none = ScalarValue::Utf8(None);
    let (yes, no) = (ScalarValue::Boolean(Some(true)), ScalarValue::Boolean(Some(false)));
    let constants = [
        ("version", text(&version())),
        ("pg_backend_pid", ScalarValue::Int32(Some(identity.pid))),
        ("session_user", text(&identity.user)),
        ("current_user", text(&identity.user)),
        ("current_role", text(&identity.user)),
        ("pg_get_userbyid", text(&identity.user)),
        ("pg_is_in_recovery", no.clone()),
        ("pg_is_other_temp_schema", no),
        ("pg_my_temp_schema", ScalarValue::Int32(Some(0))),
        ("pg_function_is_visible", yes.clone()),
        ("pg_type_is_visible", yes.clone()),
        ("pg_operator_is_visible", yes.clone()),
        ("pg_collation_is_visible", yes.clone()),
        ("pg_statistics_obj_is_visible", yes.clone()),
        ("pg_opclass_is_visible", yes.clone()),
        ("pg_conversion_is_visible", yes.clone()),
        ("pg_opfamily_is_visible", yes.clone()),
        ("pg_ts_config_is_visible", yes.clone()),
        ("pg_ts_dict_is_visible", yes.clone()),
        ("pg_ts_parser_is_visible", yes.clone()),
        ("pg_ts_template_is_visible", yes.clone()),
        ("has_function_privilege", yes.clone()),
        ("has_sequence_privilege", yes.clone()),
        ("has_column_privilege", yes.clone()),
        ("has_language_privilege", yes.clone()),
        ("pg_has_role", yes.clone()),
        ("pg_advisory_unlock_all", none.clone()),
        ("pg_table_size", ScalarValue::Int64(None)),
        ("pg_indexes_size", ScalarValue::Int64(None)),
        ("pg_database_size", ScalarValue::Int64(None)),
        ("pg_tablespace_size", ScalarValue::Int64(None)),
        ("pg_stat_get_numscans", ScalarValue::Int64(None)),
        ("txid_current", ScalarValue::Int64(Some(1))),
        ("inet_server_port", ScalarValue::Int32(None)),
        // There are no types but those that clients know.
        ("to_regtype", ScalarValue::Int32(None)),
        ("pg_char_to_encoding", ScalarValue::Int32(Some(6))),
    ];
    for (name, value) in constants {
        add(context, Constant::new(name, value));
    }
    for name in [
        "obj_description",
        "col_description",
        "shobj_description",
        "pg_get_viewdef",
        "pg_get_indexdef",
        "pg_get_triggerdef",
        "pg_get_ruledef",
        "pg_get_functiondef",
        "pg_get_function_result",
        "pg_get_function_arguments",
        "pg_get_function_sqlbody",
        "pg_get_function_identity_arguments",
        "pg_get_partition_constraintdef",
        "pg_get_serial_sequence",
        "pg_get_statisticsobjdef",
        "pg_tablespace_location",
        "pg_size_pretty",
        "pg_relation_filepath",
        "inet_server_addr",
        "inet_client_addr",
        "pg_conf_load_time",
    ] {
        add(context, Constant::new(name, none.clone()));
    }
    add(context, CurrentSetting { settings: OfSession(Arc::clone(&identity.settings)), signature: any_arguments(Volatility::Volatile) });
    add(context, SetConfig { settings: OfSession(Arc::clone(&identity.settings)), signature: Signature::any(3, Volatility::Volatile) });
    add(context, CurrentSchema { signature: any_arguments(Volatility::Stable) });
}

fn add(context: &SessionContext, function: impl ScalarUDFImpl + 'static) {
    context.register_udf(ScalarUDF::new_from_impl(function));
}

fn any_arguments(volatility: Volatility) -> Signature {
    Signature::one_of(vec![TypeSignature::Nullary, TypeSignature::VariadicAny], volatility)
}

/// A function that gives the same value whatever its arguments are.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Constant {
    name: &'static str,
    value: ScalarValue,
    signature: Signature,
}

impl Constant {
    fn new(name: &'static str, value: ScalarValue) -> Self {
        // Not to be computed before there are rows: then the value of an empty table would be one.
        Self { name, value, signature: any_arguments(Volatility::Stable) }
    }
}

impl ScalarUDFImpl for Constant {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> EngineResult<DataType> {
        Ok(self.value.data_type())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        Ok(ColumnarValue::Scalar(self.value.clone()))
    }
}

/// The settings of one session: functions of two sessions differ by them.
#[derive(Debug)]
struct OfSession(Arc<Mutex<Settings>>);

impl PartialEq for OfSession {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for OfSession {}

impl std::hash::Hash for OfSession {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

/// `current_setting(name [, whether it may be missing])`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CurrentSetting {
    settings: OfSession,
    signature: Signature,
}

impl CurrentSetting {
    fn value(&self, name: Option<&str>, is_optional: bool) -> EngineResult<Option<String>> {
        let Some(name) = name else { return Ok(None) };
        match self.settings.0.lock().get(name) {
            Some(value) => Ok(Some(value.to_owned())),
            None if is_optional => Ok(None),
            None => Err(DataFusionError::Plan(format!("unknown setting '{name}'"))),
        }
    }
}

impl ScalarUDFImpl for CurrentSetting {
    fn name(&self) -> &str {
        "current_setting"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> EngineResult<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        let is_optional = args.args.len() > 1;
        let Some(name) = args.args.first() else {
            return Err(DataFusionError::Plan("current_setting takes the name of a setting".into()));
        };
        match name {
            ColumnarValue::Scalar(name) => {
                let name = name.cast_to(&DataType::Utf8)?;
                let ScalarValue::Utf8(name) = name else { return Ok(ColumnarValue::Scalar(ScalarValue::Utf8(None))) };
                Ok(ColumnarValue::Scalar(ScalarValue::Utf8(self.value(name.as_deref(), is_optional)?)))
            }
            ColumnarValue::Array(names) => {
                let names = datafusion::arrow::compute::cast(names, &DataType::Utf8)?;
                let names = names.as_any().downcast_ref::<StringArray>();
                let names = names.ok_or_else(|| DataFusionError::Internal("names of settings are no texts".into()))?;
                let values: EngineResult<Vec<_>> = names.iter().map(|name| self.value(name, is_optional)).collect();
                Ok(ColumnarValue::Array(Arc::new(StringArray::from(values?)) as ArrayRef))
            }
        }
    }
}

/// `set_config(name, value, only for this transaction)`, for settings without an effect on the cluster.
#[derive(Debug, PartialEq, Eq, Hash)]
struct SetConfig {
    settings: OfSession,
    signature: Signature,
}

impl ScalarUDFImpl for SetConfig {
    fn name(&self) -> &str {
        "set_config"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> EngineResult<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        let text = |value: &ColumnarValue| match value {
            ColumnarValue::Scalar(value) => match value.cast_to(&DataType::Utf8)? {
                ScalarValue::Utf8(text) => Ok(text),
                _ => Ok(None),
            },
            ColumnarValue::Array(_) => Err(DataFusionError::NotImplemented("set_config of columns is not supported".into())),
        };
        let (name, value) = (text(&args.args[0])?.unwrap_or_default(), text(&args.args[1])?);
        let mut settings = self.settings.0.lock();
        let checked = settings.check(&name, value.as_deref()).map_err(|refusal| DataFusionError::Plan(refusal.message))?;
        let (name, value, effect) = checked;
        if effect != Effect::None {
            return Err(DataFusionError::NotImplemented(format!("set_config of {name} is not supported: use SET")));
        }
        settings.keep(name, value.clone());
        Ok(ColumnarValue::Scalar(ScalarValue::Utf8(Some(value))))
    }
}

/// `current_schema()`: where names without a schema are looked for.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CurrentSchema {
    signature: Signature,
}

impl ScalarUDFImpl for CurrentSchema {
    fn name(&self) -> &str {
        "current_schema"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> EngineResult<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        Ok(ColumnarValue::Scalar(ScalarValue::Utf8(Some(args.config_options.catalog.default_schema.clone()))))
    }
}
