//! The aggregate that a subquery used as a value goes through where its plan does not say that it has one row at most.

use std::any::type_name;

use datafusion::arrow::array::{Array, ArrayRef, BooleanArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Signature, Volatility};
use datafusion::scalar::ScalarValue;

/// Its name in plans.
const NAME: &str = "single_value";

/// `single_value(x)`: the value of the only row, NULL of no row, and an error of two.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct SingleValue {
    signature: Signature,
}

impl SingleValue {
    pub(crate) fn new() -> Self {
        Self { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for SingleValue {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        arguments.first().cloned().ok_or_else(|| DataFusionError::Plan(format!("{NAME} takes one argument")))
    }

    fn accumulator(&self, arguments: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Only { value: ScalarValue::try_from(arguments.return_field.data_type())?, is_seen: false }))
    }

    fn state_fields(&self, arguments: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let value = Field::new(format_state_name(arguments.name, "value"), arguments.return_type().clone(), true);
        let is_seen = Field::new(format_state_name(arguments.name, "is_seen"), DataType::Boolean, false);
        Ok(vec![value.into(), is_seen.into()])
    }
}

/// What was seen until now.
#[derive(Debug)]
struct Only {
    value: ScalarValue,
    /// Tells a row whose value is NULL from no row.
    is_seen: bool,
}

impl Only {
    fn see(&mut self, values: &ArrayRef, row: usize) -> Result<()> {
        if std::mem::replace(&mut self.is_seen, true) {
            return Err(DataFusionError::Execution(
                "a subquery that is used as a value gave more than one row; add LIMIT 1, an aggregate, or a condition that leaves one row"
                    .into(),
            ));
        }
        self.value = ScalarValue::try_from_array(values, row)?.compacted();
        Ok(())
    }
}

impl Accumulator for Only {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = values.first().ok_or_else(|| DataFusionError::Internal(format!("{NAME} got no argument")))?;
        (0..values.len()).try_for_each(|row| self.see(values, row))
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [values, is_seen] = states else {
            return Err(DataFusionError::Internal(format!("a state of {NAME} has {} columns, not 2", states.len())));
        };
        let is_seen: &BooleanArray = is_seen
            .as_any()
            .downcast_ref()
            .ok_or_else(|| DataFusionError::Internal(format!("a state of {NAME} is no {}", type_name::<BooleanArray>())))?;
        (0..values.len()).filter(|&row| is_seen.value(row)).try_for_each(|row| self.see(values, row))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(self.value.clone())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.value.clone(), ScalarValue::Boolean(Some(self.is_seen))])
    }

    fn size(&self) -> usize {
        size_of_val(self) - size_of_val(&self.value) + self.value.size()
    }
}
