//! Owns the pictures: lines over a logarithmic axis, and bars with their spread, as SVG text. Knows nothing of what is drawn.
//! Called by `page`.

use std::error::Error;

use plotters::prelude::*;

use crate::stats::Spread;
use crate::trouble::Trouble;

/// A line with its name.
#[derive(Clone, Debug)]
pub struct Line {
    /// In the legend.
    pub name: String,
    /// Points, by rising x; y must be above 0.
    pub points: Vec<(f64, f64)>,
}

/// What the axes of lines are.
#[derive(Clone, Copy)]
pub struct Axes<'a> {
    /// Above the picture.
    pub title: &'a str,
    /// Below it.
    pub x: &'a str,
    /// Beside it.
    pub y: &'a str,
    /// How a place on the x axis is called.
    pub x_label: &'a dyn Fn(f64) -> String,
}

/// Lines over a linear x axis and a logarithmic y axis.
pub fn lines(axes: Axes<'_>, lines: &[Line]) -> Result<String, Trouble> {
    let mut text = String::new();
    draw_lines(&mut text, axes, lines).map_err(|error| failed(error.as_ref()))?;
    Ok(text)
}

/// Horizontal bars, each with a whisker from its lowest to its highest value.
pub fn bars(title: &str, digits: usize, bars: &[(String, Spread)]) -> Result<String, Trouble> {
    let mut text = String::new();
    draw_bars(&mut text, title, digits, bars).map_err(|error| failed(error.as_ref()))?;
    Ok(text)
}

fn failed(error: &dyn Error) -> Trouble {
    Trouble::Broken(format!("drawing a picture: {error}"))
}

fn draw_lines(text: &mut String, axes: Axes<'_>, lines: &[Line]) -> Result<(), Box<dyn Error>> {
    let points = || lines.iter().flat_map(|line| &line.points).filter(|(_, y)| *y > 0.0);
    let (x_low, x_high) = bounds(points().map(|(x, _)| *x));
    let (y_low, y_high) = bounds(points().map(|(_, y)| y.log10()));
    let area = SVGBackend::with_string(text, (WIDTH, HEIGHT)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(axes.title, (FONT, 17))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(x_low..x_high, y_low - 0.05..y_high + 0.05)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc(axes.x)
        .y_desc(axes.y)
        .x_label_formatter(&|x| (axes.x_label)(*x))
        .y_label_formatter(&|y| short(10f64.powf(*y)))
        .draw()?;
    for (at, line) in lines.iter().enumerate() {
        let style = color(at).stroke_width(2);
        let drawn = line.points.iter().filter(|(_, y)| *y > 0.0).map(|(x, y)| (*x, y.log10()));
        chart
            .draw_series(LineSeries::new(drawn, style))?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .label_font((FONT, 13))
        .draw()?;
    area.present()?;
    Ok(())
}

fn draw_bars(
    text: &mut String,
    title: &str,
    digits: usize,
    bars: &[(String, Spread)],
) -> Result<(), Box<dyn Error>> {
    let high = bars.iter().map(|(_, spread)| spread.high).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let low = bars.iter().map(|(_, spread)| spread.low).fold(0.0, f64::min);
    let height = BARS_HEIGHT + BAR_HEIGHT * bars.len() as u32;
    let area = SVGBackend::with_string(text, (WIDTH, height)).into_drawing_area();
    area.fill(&WHITE)?;
    let count = bars.len() as f64;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, (FONT, 17))
        .margin(12)
        .x_label_area_size(24)
        .build_cartesian_2d(low * 1.15..high * 1.15, count..0.0)?;
    chart.configure_mesh().disable_y_mesh().disable_y_axis().light_line_style(WHITE).draw()?;
    for (at, (name, spread)) in bars.iter().enumerate() {
        let y = at as f64;
        let style = color(at).mix(0.35).filled();
        chart.draw_series([Rectangle::new([(0.0, y + 0.1), (spread.median, y + 0.9)], style)])?;
        let whisker = vec![(spread.low, y + 0.75), (spread.high, y + 0.75)];
        chart.draw_series([PathElement::new(whisker, color(at).stroke_width(2))])?;
        let label = format!("{name}: {:.digits$}", spread.median);
        chart.draw_series([Text::new(label, (high * 0.01, y + 0.2), (FONT, 14))])?;
    }
    area.present()?;
    Ok(())
}

/// From the lowest to the highest, and never nothing.
fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
    match low.partial_cmp(&high) {
        Some(std::cmp::Ordering::Less) => (low, high),
        Some(std::cmp::Ordering::Equal) => (low - 0.5, high + 0.5),
        _ => (0.0, 1.0),
    }
}

/// Two digits that count, without an exponent.
fn short(value: f64) -> String {
    let digits = (1.0 - value.abs().max(1e-9).log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{value:.digits$}")
}

/// Told apart by most eyes, on white.
fn color(at: usize) -> RGBColor {
    COLORS[at % COLORS.len()]
}

const COLORS: [RGBColor; 9] = [
    RGBColor(0, 90, 181),
    RGBColor(220, 50, 32),
    RGBColor(60, 60, 60),
    RGBColor(0, 140, 110),
    RGBColor(230, 140, 0),
    RGBColor(130, 70, 170),
    RGBColor(90, 170, 220),
    RGBColor(170, 110, 40),
    RGBColor(210, 100, 160),
];
const FONT: &str = "sans-serif";
const WIDTH: u32 = 760;
const HEIGHT: u32 = 420;
const BARS_HEIGHT: u32 = 80;
const BAR_HEIGHT: u32 = 34;

#[cfg(test)]
mod tests {
    use super::*;

    fn axes(title: &str) -> Axes<'_> {
        Axes { title, x: "x", y: "y", x_label: &|x| format!("<{x}>") }
    }

    #[test]
    fn lines_carry_their_names_and_what_cannot_be_drawn_is_left_out() {
        let line = |name: &str, points: &[(f64, f64)]| Line { name: name.into(), points: points.to_vec() };
        let all = [line("one", &[(0.0, 1.0), (1.0, 100.0)]), line("two & more", &[(0.0, 0.0), (1.0, 3.0)])];
        let text = lines(axes("a title"), &all).expect("it can be drawn");
        for part in ["<svg", "a title", "one", "two &amp; more", "</svg>"] {
            assert!(text.contains(part), "{part}");
        }
        assert!(text.matches("<polyline").count() >= 2, "{text}");
        assert!(!text.contains("NaN") && !text.contains("inf"));
        assert!(lines(axes("nothing"), &[]).expect("an empty one").contains("</svg>"));
    }

    #[test]
    fn bars_say_their_values() {
        let spread = |median, low, high| Spread { median, low, high };
        let all = [("raw".to_owned(), spread(8.25, 7.0, 9.0)), ("less".to_owned(), spread(-1.0, -2.0, 0.0))];
        let text = bars("CPU", 2, &all).expect("it can be drawn");
        assert!(text.contains("raw: 8.25") && text.contains("less: -1.00"));
        assert!(bars("nothing", 0, &[]).expect("an empty one").contains("</svg>"));
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.0123, 0.5, 1.26, 12.6, 1_259.0].map(short), ["0.012", "0.50", "1.3", "13", "1259"]);
    }
}
