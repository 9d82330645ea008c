//! The values of each data point over time, reduced so that all of them can be drawn: if points must be merged, the smallest,
//! the greatest and the last value remain.

use std::collections::BTreeMap;

use crate::{
    json::Json,
    tuya::product::{DataPoint, DataType, Product},
};

use super::counters::DeviceId;

/// The largest number of points of all series.
const BUDGET: usize = 200_000;

/// The largest number of points of one series: the first limit, and the last one if there are many series.
const LIMITS: (usize, usize) = (1_500, 24);

/// The largest number of series.
const SERIES: usize = 20_000;

/// The largest number of different words of a series; a data point with more is text, not a state.
const WORDS: usize = 24;

/// The length to which a text is cut.
const SHOWN: usize = 120;

/// All series.
#[derive(Debug)]
pub(super) struct Charts {
    pub(super) product: Product,
    pub(super) series: BTreeMap<(DeviceId, Box<str>), Series>,
    points: usize,
    limit: usize,
    /// The number of values without a series, because there are too many series.
    pub(super) left_out: u64,
}

/// The values of one data point of one device.
#[derive(Clone, Debug, Default)]
pub(super) struct Series {
    pub(super) points: Vec<SeriesPoint>,
    /// The words for the values 0, 1, …; empty for numbers.
    pub(super) words: Vec<String>,
    /// The number of values.
    pub(super) count: u64,
    /// The number of values that are invalid for the product.
    pub(super) misfits: u64,
    /// The last value, as it was sent.
    pub(super) last: String,
    /// The time span of one point in microseconds; 0 while each value has a point of its own.
    width: i64,
    /// Whether the values are texts, which are not drawn.
    is_text: bool,
}

/// One value, or several merged ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SeriesPoint {
    /// When the first was seen, in microseconds since 1970.
    pub(super) at: i64,
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) last: f64,
}

impl Charts {
    pub(super) fn new(product: Product) -> Self {
        Self { product, series: BTreeMap::new(), points: 0, limit: LIMITS.0, left_out: 0 }
    }

    /// Adds a value that a device reported.
    pub(super) fn value(&mut self, device: DeviceId, id: &str, value: &Json, at: i64) {
        let key = (device, Box::from(id));
        let is_full = self.series.len() >= SERIES || (self.points >= BUDGET && self.limit == LIMITS.1);
        if is_full && !self.series.contains_key(&key) {
            self.left_out += 1;
            return;
        }
        let point = self.product.find(id);
        let series = self.series.entry(key).or_default();
        let before = series.points.len();
        series.take(point, value, at);
        if series.points.len() > self.limit {
            series.thin(self.limit);
        }
        self.points = self.points + series.points.len() - before;
        if self.points > BUDGET && self.limit > LIMITS.1 {
            self.limit = (self.limit / 2).max(LIMITS.1);
            for series in self.series.values_mut().filter(|series| series.points.len() > self.limit) {
                series.thin(self.limit);
            }
            self.points = self.series.values().map(|series| series.points.len()).sum();
        }
    }
}

impl Series {
    fn take(&mut self, point: Option<&DataPoint>, value: &Json, at: i64) {
        self.count += 1;
        self.last = value.get().chars().take(SHOWN).collect();
        let number = match point {
            None => self.guess(value),
            Some(point) => {
                let Ok(native) = point.accept(value) else {
                    self.misfits += 1;
                    return;
                };
                self.number(&point.kind, &native)
            }
        };
        if let Some(number) = number.filter(|_| !self.is_text) {
            self.push(at, number);
        }
    }

    fn number(&mut self, kind: &DataType, native: &Json) -> Option<f64> {
        match kind {
            DataType::Value { scale, .. } => {
                let scale = i32::try_from(*scale).unwrap_or_default();
                native.get().parse::<f64>().ok().map(|number| number / 10f64.powi(scale))
            }
            DataType::Bitmap { .. } => native.get().parse().ok(),
            DataType::Bool => {
                if self.words.is_empty() {
                    self.words = vec!["false".into(), "true".into()];
                }
                Some(if native.get() == "true" { 1.0 } else { 0.0 })
            }
            DataType::Enum { range } => {
                if self.words.is_empty() {
                    self.words.clone_from(range);
                }
                self.word(serde_json::from_str(native.get()).ok()?)
            }
            DataType::String { .. } | DataType::Raw { .. } => {
                self.is_text = true;
                None
            }
        }
    }

    /// A data point that is not in the product: the form of its values determines how it is drawn.
    fn guess(&mut self, value: &Json) -> Option<f64> {
        match value.get() {
            "true" | "false" => self.number(&DataType::Bool, value),
            text if text.starts_with('"') => self.word(serde_json::from_str(text).ok()?),
            text => text.parse().ok().filter(|number: &f64| number.is_finite() && self.words.is_empty()),
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "there are few words")]
    fn word(&mut self, word: String) -> Option<f64> {
        let place = self.words.iter().position(|known| *known == word).unwrap_or_else(|| {
            self.words.push(word.chars().take(SHOWN).collect());
            self.words.len() - 1
        });
        if place >= WORDS {
            self.is_text = true;
            self.points = Vec::new();
            self.words = Vec::new();
            return None;
        }
        Some(place as f64)
    }

    fn push(&mut self, at: i64, value: f64) {
        let next = SeriesPoint { at, min: value, max: value, last: value };
        match self.points.last_mut() {
            Some(last) if same_stretch(self.width, last.at, at) => last.merge(next),
            _ => self.points.push(next),
        }
    }

    /// Halves the number of points, or more.
    fn thin(&mut self, limit: usize) {
        let (Some(first), Some(last)) = (self.points.first(), self.points.last()) else { return };
        let parts = i64::try_from(limit / 2).unwrap_or(1).max(1);
        self.width = ((last.at - first.at) / parts + 1).max(self.width * 2);
        let mut thinner: Vec<SeriesPoint> = Vec::with_capacity(limit);
        for point in self.points.drain(..) {
            match thinner.last_mut() {
                Some(last) if same_stretch(self.width, last.at, point.at) => last.merge(point),
                _ => thinner.push(point),
            }
        }
        self.points = thinner;
    }
}

fn same_stretch(width: i64, one: i64, other: i64) -> bool {
    if width == 0 { one == other } else { one.div_euclid(width) == other.div_euclid(width) }
}

impl SeriesPoint {
    fn merge(&mut self, later: Self) {
        self.min = self.min.min(later.min);
        self.max = self.max.max(later.max);
        self.last = later.last;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Json {
        Json::parse(text).unwrap()
    }

    #[test]
    fn extremes_survive_thinning_and_the_number_of_points_is_bounded() {
        let mut charts = Charts::new(Product::smart_water_meter());
        for n in 0..100_000_i64 {
            let reading = if n == 77_777 { 999_999 } else { 1_000 + n % 10 };
            charts.value(DeviceId(0), "1", &value(&reading.to_string()), n * 1_000_000);
        }
        let series = &charts.series[&(DeviceId(0), "1".into())];
        assert!(series.points.len() <= LIMITS.0 && series.points.len() > LIMITS.0 / 4);
        assert_eq!(series.count, 100_000);
        let max = series.points.iter().map(|point| point.max).fold(0.0, f64::max);
        assert!((max - 999.999).abs() < 1e-9, "scaled by the model: {max}");
    }

    #[test]
    #[ignore = "slow: makes a million points"]
    fn many_series_share_the_budget() {
        let mut charts = Charts::new(Product::smart_water_meter());
        for n in 0..2_000_000_i64 {
            let device = DeviceId(u32::try_from(n % 20_000).unwrap());
            charts.value(device, "1", &value("5"), n * 1_000);
        }
        let points: usize = charts.series.values().map(|series| series.points.len()).sum();
        assert!(points <= BUDGET + 20_000 * LIMITS.1 && charts.limit == LIMITS.1, "{points}");
        assert_eq!(points, charts.points);
    }

    #[test]
    fn states_have_words_and_texts_are_not_drawn() {
        let mut charts = Charts::new(Product::smart_water_meter());
        charts.value(DeviceId(0), "9", &value("\"opened\""), 1);
        charts.value(DeviceId(0), "9", &value("7"), 2);
        charts.value(DeviceId(0), "99", &value("\"a\""), 1);
        charts.value(DeviceId(0), "99", &value("\"b\""), 2);
        charts.value(DeviceId(0), "98", &value("1.5"), 2);
        for n in 0..100 {
            charts.value(DeviceId(0), "97", &value(&format!("\"text {n}\"")), n);
        }
        let series = |id: &str| &charts.series[&(DeviceId(0), id.into())];
        let valve = series("9");
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let word = &valve.words[valve.points[0].last as usize];
        assert_eq!((word.as_str(), valve.misfits, valve.count), ("opened", 1, 2));
        assert_eq!(series("99").words, ["a", "b"]);
        assert!((series("98").points[0].last - 1.5).abs() < 1e-9);
        assert!(series("97").points.is_empty() && series("97").last == "\"text 99\"");
    }
}
