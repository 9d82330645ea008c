use super::*;

/// Gives so many bytes at a time, at most.
struct Pieces<'a>(&'a [u8], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.1.min(self.0.len()).min(buffer.len());
        let (piece, rest) = self.0.split_at(length);
        buffer[..length].copy_from_slice(piece);
        self.0 = rest;
        Ok(length)
    }
}

/// What each row is: its line, and its fields or why it is none; or why there is no more. And the warnings.
fn rows_and_warnings(text: &[u8], chunk: usize) -> (Vec<(u64, String)>, Vec<String>) {
    let found = RefCell::new(Vec::new());
    let warnings = RefCell::new(Vec::new());
    let take = |input: InputValue<'_>, batch: &mut Vec<(u64, String)>| {
        let text = match input.content {
            InputContent::Fields(fields) => format!("{fields:?}"),
            InputContent::Broken(_, why) => why.message,
            InputContent::Json(_) => unreachable!("CSV has no JSON values"),
        };
        batch.push((input.line.unwrap(), text));
    };
    let emit = |batch: Vec<_>| {
        found.borrow_mut().extend(batch);
        Ok(())
    };
    let warn = |message: &str| warnings.borrow_mut().push(message.to_owned());
    let result = read(Pieces(text, chunk), &emit, take, &warn);
    let mut found = found.into_inner();
    if let Err(why) = result {
        found.push((0, why.to_string()));
    }
    (found, warnings.into_inner())
}

fn rows(text: &[u8], chunk: usize) -> Vec<(u64, String)> {
    rows_and_warnings(text, chunk).0
}

fn each(text: &str, expected: &[(u64, &str)]) {
    let expected: Vec<_> = expected.iter().map(|(line, text)| (*line, (*text).to_owned())).collect();
    for chunk in [1, 3, 4, 7, 4096] {
        assert_eq!(rows(text.as_bytes(), chunk), expected, "{text:?} in chunks of {chunk}");
    }
}

#[test]
fn rows_become_fields_with_their_lines() {
    each(
        "\u{feff}cid,value,note\r\nm1,\"1,5\",\r\n\r\nm2,\"a\nb\",x,y\r\nm3\n",
        &[
            (2, r#"[("cid", "m1"), ("value", "1,5")]"#),
            (4, "4 cells under a header of 3"),
            (6, r#"[("cid", "m3")]"#),
        ],
    );
    each("\u{feff}\"cid\",x\nm1,5\" pipe\n", &[(2, r#"[("cid", "m1"), ("x", "5\" pipe")]"#)]);
    each("", &[]);
    each("\n\n", &[]);
}

#[test]
fn a_quote_that_stands_wrongly_takes_no_rows_along() {
    each(
        "cid,note\nm1,a\nm2,\"b\nm3,c\nm4,d\n",
        &[(2, r#"[("cid", "m1"), ("note", "a")]"#), (3, "the quote that opens a cell on line 3 has no end")],
    );
    each(
        "cid,note\nm1,\"a\nm2,b\nm3,\"c\"\nm4,\"d\"\"e\"\n",
        &[
            (2, "line 4 goes on after a closing quote: a quote in a cell is written twice"),
            (5, r#"[("cid", "m4"), ("note", "d\"e")]"#),
        ],
    );
    // Blanks after a closing quote are fine; another quote after them is not the second half of one in the cell.
    each(
        "cid,note\nm1,\"a\" \"b\"\nm2,\"c\" \n",
        &[
            (2, "line 2 goes on after a closing quote: a quote in a cell is written twice"),
            (3, r#"[("cid", "m2"), ("note", "c")]"#),
        ],
    );
    let mut long = b"cid,note\nm1,\"".to_vec();
    long.resize(6 << 20, b'x');
    let why = "the quote that opens a cell on line 2 has no end, and is longer than 4194304 bytes";
    assert_eq!(rows(&long, 4096), [(0, why.to_owned())]);
}

#[test]
fn a_header_that_names_no_device_ends_the_reading() {
    let why = "line 1, the header, has no column cid; its columns, separated by commas, are [\"a\", \"id\"]";
    each("a,id\n1,1\n", &[(0, why)]);
    let why =
        "line 3, the header, has no column cid; its columns, separated by semicolons, are [\"a\", \"b\"]";
    each("sep=;\n\na;b\n1;1\n", &[(0, why)]);
    each("\"cid,id\nm1,1\n", &[(0, "the header: the quote that opens a cell on line 1 has no end")]);
}

#[test]
fn columns_are_separated_as_the_first_line_or_the_header_says() {
    let row = r#"[("cid", "m1"), ("note", "a; b, c")]"#;
    for (text, line) in [
        ("cid,note\nm1,\"a; b, c\"\n", 2),
        ("cid;note\r\nm1;\"a; b, c\"\r\n", 2),
        ("cid\tnote\nm1\ta; b, c\n", 2),
        (" cid ;\t\"note\" \nm1 ; \"a; b, c\"\t\n", 2),
        ("sep=;\r\ncid;note\r\nm1;\"a; b, c\"\r\n", 3),
        ("\u{feff}SEP=;\ncid;note\nm1;\"a; b, c\"", 3),
        ("\"sep=;\"\ncid;note\nm1;\"a; b, c\"\n", 3),
        ("\"sep=;\";;\n\ncid;note\nm1;\"a; b, c\"\n", 4),
        ("sep=\t\ncid\tnote\nm1\ta; b, c\n", 3),
        ("sep=\\t\ncid\tnote\nm1\ta; b, c\n", 3),
        ("sep=|\ncid|note\nm1|a; b, c\n", 3),
        // An editor takes a tab off the line's end.
        ("sep=\ncid\tnote\nm1\ta; b, c\n", 3),
        ("\ncid;note\n\nm1;\"a; b, c\"\n", 4),
        // Old Macs end lines so; they count as one.
        ("cid;note\rm1;\"a; b, c\"\r", 1),
        ("note;cid\n\"a; b, c\";m1\n", 2),
    ] {
        let row = if text.starts_with("note") { r#"[("note", "a; b, c"), ("cid", "m1")]"# } else { row };
        each(text, &[(line, row)]);
    }
    // A comma in a name does not outweigh the separator that makes a column cid.
    each("\"cid\";\"a,b,c\"\nm1;2\n", &[(2, r#"[("cid", "m1"), ("a,b,c", "2")]"#)]);
    each("cid\nm1\n", &[(2, r#"[("cid", "m1")]"#)]);
    each("sep=;", &[]);
}

#[test]
fn blanks_around_cells_are_taken_away_and_those_in_them_kept() {
    each(
        "cid, product_id,\tnote \nm1 ,\u{a0}p 1\u{200b},\" a \"\n \u{feff}\"m2\" , \"p\"\"2\"\t,\u{3000}x\n",
        &[
            (2, r#"[("cid", "m1"), ("product_id", "p 1"), ("note", "a")]"#),
            (3, r#"[("cid", "m2"), ("product_id", "p\"2"), ("note", "x")]"#),
        ],
    );
    // The text of a data point is the user's own, if it has quotes.
    each(
        "cid,code,value\n\" m1 \",d_begin_time ,\" a \"\nm2,d_begin_time, a \n",
        &[
            (2, r#"[("cid", "m1"), ("code", "d_begin_time"), ("value", " a ")]"#),
            (3, r#"[("cid", "m2"), ("code", "d_begin_time"), ("value", "a")]"#),
        ],
    );
    // Half a character at the end of a cell, or of the file, is none of them.
    each("cid\nm\u{a1}\n", &[(2, "[(\"cid\", \"m¡\")]")]);
    assert_eq!(rows(b"cid\nm1\xe2\x80", 1), [(2, "the cell is not valid UTF-8".to_owned())]);
}

#[test]
fn rows_of_empty_cells_are_as_good_as_blank_lines() {
    each(
        "cid,product_id\n,\nm1,p1\n , \n\"\",\"\"\n,,,,\n\u{a0},\" \"\n   \nm2,p1,,,\n;;\n",
        &[
            (3, r#"[("cid", "m1"), ("product_id", "p1")]"#),
            (9, r#"[("cid", "m2"), ("product_id", "p1")]"#),
            (10, r#"[("cid", ";;")]"#),
        ],
    );
}

#[test]
fn a_repeated_header_is_passed_over_with_a_warning() {
    let m1 = (2, r#"[("cid", "m1"), ("product_id", "p1")]"#);
    let plain = "line 3 repeats the header and was passed over";
    let other = "line 3 repeats the header and was passed over; the rows below it have its columns";
    for (second, row, m2, warning) in [
        ("cid,product_id", "m2,p2", r#"[("cid", "m2"), ("product_id", "p2")]"#, plain),
        ("\u{feff}cid,product_id", "m2,p2", r#"[("cid", "m2"), ("product_id", "p2")]"#, plain),
        ("\u{feff}\"cid\", \"product_id\" ", "m2,p2", r#"[("cid", "m2"), ("product_id", "p2")]"#, plain),
        ("cid,product_id,,", "m2,p2,,", r#"[("cid", "m2"), ("product_id", "p2")]"#, plain),
        ("CID,Product_ID", "m2,p2", r#"[("cid", "m2"), ("product_id", "p2")]"#, plain),
        // The rows below another header are read by that one.
        ("product_id,cid", "p2,m2", r#"[("product_id", "p2"), ("cid", "m2")]"#, other),
        ("device_name,cid", "Hall,m2", r#"[("device_name", "Hall"), ("cid", "m2")]"#, other),
        (
            "cid,product_id,device_name",
            "m2,p2,Hall",
            r#"[("cid", "m2"), ("product_id", "p2"), ("device_name", "Hall")]"#,
            other,
        ),
        ("cid", "m2", r#"[("cid", "m2")]"#, other),
    ] {
        let text = format!("cid,product_id\nm1,p1\n{second}\n{row}\n");
        each(&text, &[m1, (4, m2)]);
        assert_eq!(rows_and_warnings(text.as_bytes(), 7).1, [warning], "{text:?}");
    }
    // Two files, each with its line for the spreadsheet.
    each(
        "sep=;\ncid;x\nm1;1\nsep=;\ncid;x\nm2;2\n\"sep=;\"\ncid;x\nm3;3\n",
        &[
            (3, r#"[("cid", "m1"), ("x", "1")]"#),
            (6, r#"[("cid", "m2"), ("x", "2")]"#),
            (9, r#"[("cid", "m3"), ("x", "3")]"#),
        ],
    );
    // A device may be called so; its row is no header.
    each("cid,product_id\ncid,p1\n", &[(2, r#"[("cid", "cid"), ("product_id", "p1")]"#)]);
    let many = "cid,x\n".repeat(40);
    let (found, warnings) = rows_and_warnings(many.as_bytes(), 4096);
    assert!(found.is_empty(), "{found:?}");
    assert_eq!(warnings.len(), 11);
    assert_eq!(warnings[10], "29 more lines repeat the header and were passed over");
}

/// Generated tables of every kind come out as they were meant, however their bytes arrive.
#[test]
fn generated_tables_come_out_as_they_were_meant() {
    const BLANKS: [&str; 7] = ["", "", "", " ", "  ", "\u{a0}", "\u{200b}"];
    const TEXTS: [&str; 8] = ["m1", "a b", "ü", "5\"", "1,5", "x;y", "a\nb", "say \"no\""];
    for seed in 0..400 {
        let mut random = fastrand::Rng::with_seed(seed);
        let delimiter = random.choice([",", ";", "\t"]).unwrap();
        let end = random.choice(["\n", "\r\n"]).unwrap();
        let mut names = vec!["cid", "product_id", "note"];
        let (mut text, mut line, mut expected, mut repeated) = (String::new(), 1, Vec::new(), 0);
        if random.bool() {
            text.push('\u{feff}');
        }
        if random.bool() {
            text.push_str(&format!("sep={delimiter}{end}"));
            line += 1;
        }
        let mut write_row = |cells: &[&str], random: &mut fastrand::Rng, line: &mut u64| {
            let start = *line;
            for (at, cell) in cells.iter().enumerate() {
                let must = cell.contains([',', ';', '\t', '"', '\n']);
                let cell = if must || random.bool() {
                    format!("\"{}\"", cell.replace('"', "\"\""))
                } else {
                    (*cell).to_owned()
                };
                let (before, after) = (random.choice(BLANKS).unwrap(), random.choice(BLANKS).unwrap());
                text.push_str(&format!("{}{before}{cell}{after}", if at > 0 { delimiter } else { "" }));
            }
            text.push_str(end);
            *line += 1 + cells.iter().map(|cell| cell.matches('\n').count() as u64).sum::<u64>();
            while random.u8(..5) == 0 {
                text.push_str(end);
                *line += 1;
            }
            start
        };
        random.shuffle(&mut names);
        write_row(&names, &mut random, &mut line);
        for _ in 0..random.usize(..8) {
            match random.u8(..6) {
                0 => {
                    random.shuffle(&mut names);
                    write_row(&names, &mut random, &mut line);
                    repeated += 1;
                }
                1 => drop(write_row(&["", "", ""], &mut random, &mut line)),
                _ => {
                    let cells = [(); 3].map(|()| random.choice(TEXTS).unwrap());
                    let start = write_row(&cells, &mut random, &mut line);
                    let fields: Vec<_> = names.iter().zip(cells).map(|(name, cell)| (*name, cell)).collect();
                    expected.push((start, format!("{fields:?}")));
                }
            }
        }
        for chunk in [1, 5, 4096] {
            let (found, warnings) = rows_and_warnings(text.as_bytes(), chunk);
            assert_eq!(found, expected, "seed {seed}, chunks of {chunk}: {text:?}");
            assert_eq!(warnings.len(), repeated, "seed {seed}: {text:?}");
        }
    }
}

/// What a row is by the letter of RFC 4180, or that its quotes are wrong.
fn strict(text: &str, delimiter: char) -> Vec<Result<Vec<String>, ()>> {
    let (mut rows, mut row, mut cell, mut wrong) = (Vec::new(), Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    let mut at_start = true;
    while let Some(c) = chars.next() {
        if c == '"' && at_start {
            at_start = false;
            loop {
                match chars.next() {
                    None => {
                        wrong = true;
                        break;
                    }
                    Some('"') if chars.next_if_eq(&'"').is_some() => cell.push('"'),
                    Some('"') => break,
                    Some(other) => cell.push(other),
                }
            }
            let goes_on = |next: &char| !matches!(*next, '\n' | '\r') && *next != delimiter;
            wrong |= chars.peek().is_some_and(goes_on);
        } else if c == delimiter {
            row.push(std::mem::take(&mut cell));
            at_start = true;
        } else if matches!(c, '\n' | '\r') {
            // A blank line is no row.
            if !row.is_empty() || !cell.is_empty() || !at_start {
                row.push(std::mem::take(&mut cell));
                rows.push(if wrong { Err(()) } else { Ok(std::mem::take(&mut row)) });
            }
            row.clear();
            cell.clear();
            (wrong, at_start) = (false, true);
        } else {
            at_start = false;
            cell.push(c);
        }
    }
    if !row.is_empty() || !cell.is_empty() || !at_start {
        row.push(cell);
        rows.push(if wrong { Err(()) } else { Ok(row) });
    }
    rows
}

/// The scanner and the csv reader agree on where rows and cells end, whatever the quotes are.
#[test]
fn the_scanner_and_the_csv_reader_agree_on_mangled_quotes() {
    for seed in 0..800 {
        let mut random = fastrand::Rng::with_seed(seed);
        let delimiter = random.choice([',', ';', '\t']).unwrap();
        let letters = ['"', '"', delimiter, '\n', '\r', 'a', 'b'];
        let body: String = (0..random.usize(..24)).map(|_| random.choice(letters).unwrap()).collect();
        let text = format!("cid{delimiter}b{delimiter}c{delimiter}d{delimiter}e\n{body}");
        let expected: Vec<_> = strict(&text, delimiter)
            .into_iter()
            .skip(1)
            .filter(|row| row.as_ref().map_or(true, |cells| cells.iter().any(|cell| !cell.trim().is_empty())))
            .map(|row| {
                row.ok().filter(|cells| cells.iter().rposition(|cell| !cell.trim().is_empty()) < Some(5))
            })
            .map(|row| {
                row.map(|cells| {
                    let fields = ["cid", "b", "c", "d", "e"].into_iter().zip(cells);
                    fields
                        .map(|(name, cell)| (name, cell.trim().to_owned()))
                        .filter(|(_, cell)| !cell.is_empty())
                        .collect::<Vec<_>>()
                })
            })
            .map(|row| row.map(|fields| format!("{fields:?}")))
            .collect();
        for chunk in [1, 4096] {
            let found: Vec<_> = rows(text.as_bytes(), chunk)
                .into_iter()
                .map(|(_, text)| text.starts_with("[(").then_some(text))
                .collect();
            assert_eq!(found, expected, "seed {seed}, chunks of {chunk}: {text:?}");
        }
    }
}
