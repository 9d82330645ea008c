//! The checks of a decoded message: its time, its data point and its value, in this order. Whether the device is known is
//! checked between the first two.

use std::time::Duration;

use crate::tuya::{
    ResultCode,
    product::{DataPoint, Product},
};

/// A `t` from this value on is in milliseconds: in seconds it would lie in the year 5138.
const MILLISECONDS: u64 = 100_000_000_000;

/// Why a request is refused: the code for its answer, and a reason for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: ResultCode,
    pub(super) why: String,
}

impl Refusal {
    pub(super) fn new(code: ResultCode, why: impl Into<String>) -> Self {
        Self { code, why: why.into() }
    }
}

/// Whether a time stamp is in milliseconds.
pub(super) fn is_milliseconds(t: i64) -> bool {
    t.unsigned_abs() >= MILLISECONDS
}

/// Checks a message's time stamp against the wall clock (1001).
pub(super) fn check_time(t: i64, unix: Duration, max_skew: Option<Duration>) -> Result<(), Refusal> {
    let Some(limit) = max_skew else { return Ok(()) };
    // A time stamp in whole seconds is up to one second older than the time at which it was taken.
    let (said, grain) = if is_milliseconds(t) { (i128::from(t), 0) } else { (i128::from(t) * 1_000, 999) };
    let now = i128::try_from(unix.as_millis()).unwrap_or(i128::MAX);
    let limit = i128::try_from(limit.as_millis()).unwrap_or(i128::MAX);
    let (early, late) = (now - said - grain, said - now);
    if early > limit || late > limit {
        let off = if late > 0 { format!("{late} ms ahead") } else { format!("{} ms behind", now - said) };
        return Err(Refusal::new(ResultCode::TIME_INVALID, format!("t is {off}")));
    }
    Ok(())
}

/// Finds the data point of an id on the wire, which is a decimal number and never a code (2002).
fn find_point<'p>(product: &'p Product, id: &str) -> Result<&'p DataPoint, Refusal> {
    let number: Option<u32> = id.parse().ok();
    product.find(id).filter(|point| Some(point.id) == number).ok_or_else(|| {
        Refusal::new(ResultCode::NOT_SUPPORTED, format!("the product has no data point {id:?}"))
    })
}

/// Checks a reported data point, which must exist and be readable (2002), and its value (1102, 1103, 1101, 2002).
pub(super) fn check_report(product: &Product, id: &str, value: &str) -> Result<(), Refusal> {
    let point = find_point(product, id)?;
    if !point.readable() {
        let why = format!("data point {id} ({}) is write-only", point.code);
        return Err(Refusal::new(ResultCode::NOT_SUPPORTED, why));
    }
    point.validate(value).map_err(|misfit| Refusal::new(misfit.code, misfit.message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_off_by_more_than_the_limit_in_either_unit() {
        let now = Duration::from_millis(1_700_000_000_500);
        let limit = Some(Duration::from_secs(10));
        let code = |t| check_time(t, now, limit).err().map(|refusal| refusal.code);
        for good in [
            1_700_000_000,
            1_699_999_990,
            1_700_000_010,
            1_700_000_000_500,
            1_699_999_990_500,
            1_700_000_010_500,
        ] {
            assert_eq!(code(good), None, "{good}");
        }
        for bad in
            [0, -1, i64::MAX, i64::MIN, 1_699_999_989, 1_700_000_011, 1_699_999_990_499, 1_700_000_010_501]
        {
            assert_eq!(code(bad), Some(ResultCode::TIME_INVALID), "{bad}");
        }
        assert_eq!(check_time(0, now, None), Ok(()));
    }

    #[test]
    fn every_refusal_of_a_value_has_its_code() {
        let meter = Product::smart_water_meter();
        let code =
            |id: &str, value: &str| check_report(&meter, id, value).err().map_or(0, |refusal| refusal.code.0);
        for (id, value, expected) in [
            ("1", "0", 0),
            ("1", "999999999", 0),
            ("1", "\"12345\"", 0),
            ("1", "1000000000", 1101),
            ("1", "-1", 1101),
            ("1", "\"run\"", 1103),
            ("1", "1.5", 1103),
            ("1", "true", 1103),
            ("1", "{}", 1103),
            ("1", "null", 1102),
            ("4", "true", 0),
            ("4", "1", 0),
            ("4", "\"false\"", 0),
            ("4", "\"on\"", 1103),
            ("7", "\"1627228800\"", 0),
            ("9", "\"opened\"", 0),
            ("9", "\"ajar\"", 2002),
            ("9", "1", 1103),
            ("0", "1", 2002),
            ("19", "1", 2002),
            ("water_flow", "1", 2002),
            ("", "1", 2002),
        ] {
            assert_eq!(code(id, value), expected, "{id} = {value}");
        }
        let model = br#"[{"id":1,"code":"reset","type":"bool","access":"wo"}]"#;
        let refused = check_report(&Product::read(model).unwrap(), "1", "true").unwrap_err();
        assert_eq!(refused.code, ResultCode::NOT_SUPPORTED);
    }
}
