//! Figures, drawn: a bar for each, as long as it is of what it may be.

/// What was measured, its unit, and what it may be at most; where it may be anything, what the whole width stands for.
pub(crate) struct Figure<'a> {
    pub(crate) what: &'a str,
    pub(crate) measured: f64,
    pub(crate) unit: &'a str,
    pub(crate) most: f64,
    pub(crate) is_bound: bool,
}

const WIDTH: f64 = 560.0;
const ROW: usize = 44;

/// A drawing of `figures`.
pub(crate) fn bars(title: &str, figures: &[Figure<'_>]) -> String {
    let height = 56 + ROW * figures.len();
    let rows: String = figures
        .iter()
        .enumerate()
        .map(|(number, Figure { what, measured, unit, most, is_bound })| {
            let share =
                if *most > 0.0 { (measured / most).clamp(0.0, 1.25) } else { f64::from(u8::from(*measured > 0.0)) };
            let (text, bar, width) = (56 + ROW * number, 62 + ROW * number, (WIDTH * share).max(1.0));
            let color = if *is_bound && measured > most { "#a33a2c" } else { "#2f6f4f" };
            let limit = if *is_bound { format!(" (at most {most})") } else { String::new() };
            let line = WIDTH + 16.0;
            format!(
                "<text x=\"16\" y=\"{text}\">{what}: {measured:.2} {unit}{limit}</text>\n\
                 <rect x=\"16\" y=\"{bar}\" width=\"{width:.1}\" height=\"12\" fill=\"{color}\"/>\n\
                 <rect x=\"{line:.1}\" y=\"{bar}\" width=\"1\" height=\"12\" fill=\"#888888\"/>\n"
            )
        })
        .collect();
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 {height}\" font-family=\"sans-serif\" font-size=\"14\">\n\
         <rect width=\"720\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"28\" font-weight=\"bold\">{title}</text>\n{rows}</svg>\n"
    )
}
