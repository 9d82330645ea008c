//! Every shape of model file, and what is wrong with wrong ones.

use super::limits::access;
use crate::tuya::product::{AccessMode, ModelError, Product};

macro_rules! model {
    ($name:literal) => {
        include_bytes!(concat!("../../../../tests/models/", $name)).as_slice()
    };
}

/// The data points in the normalised form, one a line.
fn lines(product: &Product) -> Vec<String> {
    product.data_points().iter().map(|point| serde_json::to_string(point).unwrap()).collect()
}

#[track_caller]
fn holds(bytes: &[u8], expected: &[&str]) -> Product {
    let product = Product::read(bytes).unwrap();
    assert_eq!(lines(&product), expected);
    product
}

#[track_caller]
fn refused(text: &str) -> ModelError {
    Product::read(text.as_bytes()).expect_err(text)
}

#[test]
fn thing_model() {
    holds(
        model!("thing-model.json"),
        &[
            r#"{"id":"1","code":"water_use_data","name":"Water used","type":"value","access":"ro","min":0,"max":99999999,"scale":3,"step":1,"unit":"m3"}"#,
            r#"{"id":"2","code":"month_water_data","name":"Water by month","type":"raw","access":"rw","maxlen":128}"#,
            r#"{"id":"4","code":"report_period_set","name":"Reporting interval","type":"enum","access":"rw","range":["1h","2h","6h","12h","24h"]}"#,
            r#"{"id":"5","code":"warning","name":"Warnings","type":"bitmap","access":"ro","labels":["leak","reverse_flow","battery_low","empty_pipe"],"maxlen":4}"#,
            r#"{"id":"13","code":"clear_fault","name":"Clear faults","type":"bool","access":"wo"}"#,
            r#"{"id":"16","code":"meter_id","name":"Meter number","type":"string","access":"ro","maxlen":20}"#,
            r#"{"id":"22","code":"water_temp","name":"Water temperature","type":"value","access":"ro","min":-2000,"max":12000,"scale":2,"step":1,"unit":"℃"}"#,
        ],
    );
}

#[test]
fn tuyalink_model() {
    let product = holds(
        model!("tuyalink-model.json"),
        &[
            r#"{"id":"7","code":"soil_data","name":"Soil","type":"raw","access":"ro","maxlen":255}"#,
            r#"{"id":"101","code":"brightness","name":"Brightness","type":"value","access":"rw","min":10,"max":1000,"scale":1,"step":5,"unit":"%"}"#,
        ],
    );
    assert_eq!(product.id.as_deref(), Some("p8f2kq"));
}

#[test]
fn specification() {
    holds(
        model!("specification.json"),
        &[
            r#"{"id":"1","code":"water_use_data","name":"Water used","type":"value","access":"ro","min":0,"max":99999999,"scale":3,"step":1,"unit":"m3"}"#,
            r#"{"id":"2","code":"month_water_data","name":"By month","type":"string","access":"ro"}"#,
            r#"{"id":"4","code":"report_period_set","name":"Reporting interval","type":"enum","access":"rw","range":["1h","24h"]}"#,
            r#"{"id":"5","code":"fault","name":"Faults","type":"bitmap","access":"ro","labels":["leak","battery_low"]}"#,
            r#"{"id":"13","code":"switch_cold","name":"Valve","type":"bool","access":"rw"}"#,
            r#"{"id":"16","code":"meter_id","name":"Number","type":"string","access":"ro","maxlen":20}"#,
            r#"{"id":"18","code":"history","name":"History","type":"raw","access":"ro","maxlen":128}"#,
        ],
    );
}

#[test]
fn a_specification_without_ids_asks_for_them() {
    let bytes = model!("specification-without-ids.json");
    let error = Product::read(bytes).unwrap_err();
    assert_eq!(error.message, "the model gives no DP id for switch_1, countdown_1, cur_power");
    assert!(error.hint.unwrap().contains("--dp-map switch_1=ID,countdown_1=ID,cur_power=ID"));

    let ids =
        [("switch_1", 1), ("countdown_1", 9), ("cur_power", 19)].map(|(code, id)| (code.to_owned(), id));
    let product = Product::read_with_ids(bytes, &ids).unwrap();
    assert_eq!(
        lines(&product)[1..],
        [
            r#"{"id":"9","code":"countdown_1","type":"value","access":"rw","min":0,"max":86400,"scale":0,"step":1,"unit":"s"}"#,
            r#"{"id":"19","code":"cur_power","type":"value","access":"ro","min":0,"max":50000,"scale":1,"step":1,"unit":"W"}"#,
        ]
    );
    let error = Product::read_with_ids(bytes, &ids[..1]).unwrap_err();
    assert_eq!(error.message, "the model gives no DP id for countdown_1, cur_power");
    let error = Product::read_with_ids(bytes, &[("swich_1".to_owned(), 1)]).unwrap_err();
    assert!(error.message.contains("`swich_1`"), "{error}");
}

#[test]
fn device_schema() {
    let expected = [
        r#"{"id":"1","code":"switch","type":"bool","access":"rw"}"#,
        r#"{"id":"10","code":"dp_10","type":"value","access":"ro","min":-100,"max":1000000000,"scale":2,"step":1,"unit":"℃"}"#,
        r#"{"id":"19","code":"dp_19","type":"bitmap","access":"ro","maxlen":6}"#,
        r#"{"id":"20","code":"dp_20","type":"enum","access":"wo","range":["low","high"]}"#,
        r#"{"id":"21","code":"dp_21","type":"string","access":"ro","maxlen":255}"#,
        r#"{"id":"101","code":"dp_101","type":"raw","access":"rw"}"#,
    ];
    holds(model!("device-schema.json"), &expected);
    holds(model!("device-schema-text.json"), &expected);
}

#[test]
fn maps_of_local_tools() {
    let product = holds(
        model!("tinytuya-devices.json"),
        &[
            r#"{"id":"1","code":"switch","type":"bool","access":"rw"}"#,
            r#"{"id":"5","code":"weather_delay","type":"enum","access":"rw","range":["cancel","24h","48h"]}"#,
            r#"{"id":"9","code":"temp_current","type":"value","access":"rw","min":-400,"max":2000,"scale":1,"step":1,"unit":"℃"}"#,
            r#"{"id":"107","code":"cycle","type":"raw","access":"rw"}"#,
        ],
    );
    assert_eq!((product.id.as_deref(), product.name.as_deref()), (Some("keyq7w4f"), Some("Valve meter")));
    holds(
        model!("localtuya-dps.json"),
        &[
            r#"{"id":"1","code":"water_use_data","type":"value","access":"ro","min":0,"max":99999999,"scale":3,"step":1,"unit":"m3"}"#,
            r#"{"id":"13","code":"switch_cold","type":"bool","access":"rw"}"#,
            r#"{"id":"18","code":"reverse_water_data","type":"raw","access":"ro","maxlen":128}"#,
        ],
    );
    holds(
        model!("tuya-local.json"),
        &[
            r#"{"id":"2","code":"valve","type":"bool","access":"rw"}"#,
            r#"{"id":"6","code":"water_total","type":"value","access":"rw","min":0,"max":999999999,"scale":1,"step":1,"unit":"gal"}"#,
            r#"{"id":"9","code":"work_mode","type":"enum","access":"rw","range":["auto","manual"]}"#,
            r#"{"id":"103","code":"note","type":"string","access":"rw","maxlen":64}"#,
        ],
    );
    holds(
        model!("xtend-tuya.json"),
        &[
            r#"{"id":"1","code":"switch","type":"bool","access":"rw"}"#,
            r#"{"id":"4","code":"mode","type":"enum","access":"rw","range":["a","b"]}"#,
            r#"{"id":"20","code":"energy","type":"value","access":"ro","min":0,"max":999999,"scale":2,"step":1,"unit":"kW·h"}"#,
        ],
    );
}

#[test]
fn tedge_product() {
    let product = holds(
        model!("tedge-product.json"),
        &[
            r#"{"id":"3","code":"dp_3","type":"bitmap","access":"ro","labels":["sensor_short","sensor_open"]}"#,
            r#"{"id":"12","code":"dp_12","type":"enum","access":"rw","range":["heat","cool"]}"#,
            r#"{"id":"46","code":"heat_total","type":"value","access":"ro","min":0,"max":100000000,"scale":2,"step":1,"unit":"kWh"}"#,
        ],
    );
    assert_eq!((product.id.as_deref(), product.name.as_deref()), (Some("tg5kq1"), Some("Heat meter")));
}

#[test]
fn properties_without_a_service_around_them() {
    holds(
        br#"{"properties":[{"abilityId":4,"accessMode":"rw","code":"a","typeSpec":{"type":"bool"}}]}"#,
        &[r#"{"id":"4","code":"a","type":"bool","access":"rw"}"#],
    );
}

#[test]
fn a_list_of_one_product_is_that_product() {
    let listed = [b"[".as_slice(), model!("tedge-product.json"), b"]"].concat();
    assert_eq!(Product::read(&listed), Product::read(model!("tedge-product.json")));
}

#[test]
fn documentation_table() {
    let product = Product::read(model!("water-meter-table.csv")).unwrap();
    assert_eq!(product.data_points().len(), 18);
    assert_eq!(
        lines(&product)[14],
        r#"{"id":"15","code":"cold_stall_type","name":"Sharing type of cold water","type":"enum","access":"rw","range":["square_area","ignore","consumption","proportion","lease","power"]}"#
    );
    assert_eq!(
        lines(&product)[17],
        r#"{"id":"18","code":"valve_open_degree","name":"Valve openness","type":"value","access":"rw","min":0,"max":999999999,"scale":0,"step":1,"unit":"%"}"#
    );
    holds(
        model!("electricity-table.tsv"),
        &[
            r#"{"id":"1","code":"switch","name":"Switch","type":"bool","access":"rw"}"#,
            r#"{"id":"3","code":"power_current","name":"Power","type":"value","access":"ro","min":0,"max":1000000000,"scale":4,"step":1,"unit":"W"}"#,
            r#"{"id":"8","code":"device_info","name":"Device information","type":"raw","access":"rw"}"#,
            r#"{"id":"10","code":"temp_current","name":"Temperature","type":"value","access":"ro","min":-100,"max":1000000000,"scale":2,"step":1,"unit":"°C"}"#,
            r#"{"id":"16","code":"leakage_protection","name":"Leakage protection","type":"enum","access":"ro","range":["normal","alarm"]}"#,
            r#"{"id":"19","code":"fault","name":"Fault","type":"bitmap","access":"ro","labels":["short_circuit","surge","overload"]}"#,
            r#"{"id":"24","code":"reset","name":"Reset","type":"enum","access":"wo","range":["energy","all"]}"#,
            r#"{"id":"30","code":"device_alarm","name":"Alarm","type":"string","access":"ro","maxlen":64}"#,
        ],
    );
}

#[test]
fn function_pages() {
    let rows = "DP ID\tData point\tIdentifier\tTransmission Type\tDP type\tDP property\tRemarks\n\
        7\tLevel\tlevel\tSend/report\tInteger\tThe value ranges from 0 to 1,000, with a pitch of 5 and a scale of 1. Unit: %. Ten is little.\t\n\
        8\tMode\tmode\tReport & Send\tEnum\tThe enum values include eco and boost.\tSince 2.0\n\
        9\tOn\ton\tCan be issued and reported\tBoolean type\t-\t\n\
        10\tTest\ttest\tRelease only\tCharacter type\t\t\n\
        11\tFaults\tfaults\tReport only\tFault\tFault values: hot, cold\t\n";
    let expected = [
        r#"{"id":"7","code":"level","name":"Level","type":"value","access":"rw","min":0,"max":1000,"scale":1,"step":5,"unit":"%"}"#,
        r#"{"id":"8","code":"mode","name":"Mode","type":"enum","access":"rw","range":["eco","boost"]}"#,
        r#"{"id":"9","code":"on","name":"On","type":"bool","access":"rw"}"#,
        r#"{"id":"10","code":"test","name":"Test","type":"string","access":"wo"}"#,
        r#"{"id":"11","code":"faults","name":"Faults","type":"bitmap","access":"ro","labels":["hot","cold"]}"#,
    ];
    holds(rows.as_bytes(), &expected);
    // A column for each limit.
    let columns = "DP ID,Identifier,Type,Min,Max,Unit,Pitch,Enum values\n1,a,value,-5,\"1,000\",W,2,\n2,b,enum,,,,,\"x, y\"\n";
    holds(
        columns.as_bytes(),
        &[
            r#"{"id":"1","code":"a","type":"value","access":"rw","min":-5,"max":1000,"scale":0,"step":2,"unit":"W"}"#,
            r#"{"id":"2","code":"b","type":"enum","access":"rw","range":["x","y"]}"#,
        ],
    );
}

#[test]
fn diagnostics_hold_present_values_beside_the_model() {
    let model = |limits: &str| {
        format!(
            r#"{{"data":{{"product_id":"p9","status":{{"level":5,"on":true}},
                "function":{{"on":{{"type":"Boolean","value":"{{true,false}}"}}}},
                "status_range":{{"on":{{"type":"Boolean","value":{{}}}},"level":{{"type":"Integer","value":{limits}}}}}}}}}"#
        )
    };
    let ids = [("on".to_owned(), 1), ("level".to_owned(), 2)];
    for limits in [r#"{"min":0,"max":9,"scale":0,"step":1}"#, r#""{\"min\":0,\"max\":9}""#] {
        let product = Product::read_with_ids(model(limits).as_bytes(), &ids).unwrap();
        assert_eq!(
            lines(&product),
            [
                r#"{"id":"1","code":"on","type":"bool","access":"rw"}"#,
                r#"{"id":"2","code":"level","type":"value","access":"ro","min":0,"max":9,"scale":0,"step":1}"#,
            ],
            "{limits}"
        );
    }
    let error = Product::read(model("{}").as_bytes()).unwrap_err();
    assert_eq!(error.message, "the model gives no DP id for on, level");
}

#[test]
fn limits_that_are_not_understood_are_no_data_point_without_limits() {
    let properties = |spec: &str| {
        format!(r#"{{"services":[{{"properties":[{{"abilityId":1,"code":"a","typeSpec":{spec}}}]}}]}}"#)
    };
    let dps = |rest: &str| format!(r#"{{"dps":[{{"id":1,"code":"a",{rest}}}]}}"#);
    let functions = |kind: &str, values: &str| {
        format!(r#"{{"functions":[{{"dp_id":1,"code":"a","type":"{kind}","values":{values}}}]}}"#)
    };
    let map = |rest: &str| format!(r#"{{"1":{{"code":"a",{rest}}}}}"#);
    for (text, place) in [
        (functions("Integer", r#""0-100""#), "functions[0].values"),
        (functions("Integer", "[0,100,1]"), "functions[0]"),
        (functions("Integer", "17"), "functions[0].values"),
        (functions("Integer", r#""{min:0,max:9}""#), "functions[0].values: line 1"),
        (functions("Integer", r#""{\"lowest\":0,\"highest\":9}""#), "functions[0].values.lowest"),
        (functions("Integer", r#""{\"min\":0,\"max_limit\":9}""#), "functions[0].values.max_limit"),
        (functions("Integer", r#"{"min":0,"max":9,"unit":5}"#), "functions[0].values.unit"),
        (functions("Enum", r#""cold,hot""#), "functions[0].values"),
        (functions("Enum", r#""{cold,hot}""#), "functions[0].values: line 1"),
        (functions("Enum", r#"{"members":["cold"]}"#), "functions[0].values.members"),
        (functions("Enum", r#"{"min":0,"max":1}"#), "functions[0].values"),
        (functions("Bitmap", r#"{"bits":["cold"]}"#), "functions[0].values.bits"),
        (
            properties(r#"{"type":"value","valueRange":[0,9]}"#),
            "services[0].properties[0].typeSpec.valueRange",
        ),
        (properties(r#"{"type":"value","range":[0,5,9]}"#), "services[0].properties[0].typeSpec"),
        (
            properties(r#"{"type":"enum","enumeration":["a"]}"#),
            "services[0].properties[0].typeSpec.enumeration",
        ),
        (dps(r#""type":"value","maximal":9"#), "dps[0].maximal"),
        (dps(r#""type":"value","range":"0-9""#), "dps[0].range"),
        (map(r#""type":"Integer","values":"none""#), "1.values"),
    ] {
        let error = refused(&text);
        assert!(error.place.starts_with(place), "{text}: {error}");
    }
    // What is understood, or has nothing to do with limits.
    for (text, expected) in [
        (functions("Integer", "[0,100]"), r#""min":0,"max":100,"scale":0,"step":1}"#),
        (functions("Integer", r#""{}""#), r#""scale":0,"step":1}"#),
        (functions("Integer", r#""""#), r#""scale":0,"step":1}"#),
        (
            functions("Integer", r#"{"min":0,"max":9,"typeDefaultValue":1,"valueOf":2}"#),
            r#""max":9,"scale":0,"step":1}"#,
        ),
        (functions("Integer", r#"{"min_value":0,"max_value":9}"#), r#""min":0,"max":9,"scale":0,"step":1}"#),
        (functions("Enum", r#"["cold","hot"]"#), r#""range":["cold","hot"]}"#),
        (functions("Bitmap", r#"["cold","hot"]"#), r#""labels":["cold","hot"]}"#),
        (functions("Boolean", r#""{true,false}""#), r#""access":"rw"}"#),
        (functions("Boolean", r#""{\"true\",\"false\"}""#), r#""access":"rw"}"#),
        (functions("Boolean", r#""whatever""#), r#""access":"rw"}"#),
        (properties(r#"{"type":"value","range":["0","9"]}"#), r#""min":0,"max":9,"scale":0,"step":1}"#),
        (map(r#""type":"Integer","values":{"min":0},"unitary":1"#), r#""min":0,"scale":0,"step":1}"#),
    ] {
        let product = Product::read(text.as_bytes()).unwrap_or_else(|why| panic!("{text}: {why}"));
        assert!(lines(&product)[0].ends_with(expected), "{text}: {:?}", lines(&product));
    }
}

#[test]
fn access_is_understood_in_many_words() {
    let found = |text: &str| access(text).map(AccessMode::name);
    for (text, expected) in [
        ("Send/report", Some("rw")),
        ("Send and report (read-write)", Some("rw")),
        ("Report/Send", Some("rw")),
        ("send & report", Some("rw")),
        ("Can be issued and reported", Some("rw")),
        ("Distributable and reportable", Some("rw")),
        ("R/W", Some("rw")),
        ("read-write", Some("rw")),
        ("可下发可上报", Some("rw")),
        ("Report only", Some("ro")),
        ("Only report", Some("ro")),
        ("Report-only (ro)", Some("ro")),
        ("read only", Some("ro")),
        ("只上报", Some("ro")),
        ("Send only", Some("wo")),
        ("Send only (write-only)", Some("wo")),
        ("Release only", Some("wo")),
        ("wr", Some("wo")),
        ("W", Some("wo")),
        ("sometimes", None),
        ("not reported", None),
        ("only", None),
        ("", None),
        ("rx", None),
        ("report only (send only)", None),
    ] {
        assert_eq!(found(text), expected, "{text}");
    }
}

#[test]
fn the_normalised_form_reads_itself_back() {
    for bytes in [
        model!("normalised.json"),
        model!("thing-model.json"),
        model!("device-schema.json"),
        model!("tedge-product.json"),
        model!("electricity-table.tsv"),
    ] {
        let product = Product::read(bytes).unwrap();
        let text = serde_json::to_string(&product).unwrap();
        assert_eq!(Product::read(text.as_bytes()).unwrap(), product, "{text}");
    }
    let written: serde_json::Value = serde_json::from_slice(model!("normalised.json")).unwrap();
    let product = Product::read(model!("normalised.json")).unwrap();
    assert_eq!(serde_json::to_value(product).unwrap(), written);
}

#[test]
fn a_snapshot_is_refused_but_its_ids_are_told() {
    let error = Product::read(model!("property-snapshot.json")).unwrap_err();
    assert_eq!(error.place, "result.properties");
    assert!(error.message.contains("snapshot"), "{error}");
    assert!(error.hint.unwrap().contains("--dp-map water_use_data=1,valve=13"));
}

#[test]
fn syntax_errors_have_line_and_column() {
    let error = Product::read(model!("pasted-issue.json")).unwrap_err();
    assert_eq!(error.place, "line 3, column 17");
    assert!(error.hint.unwrap().contains("not escaped"));
    let error = refused("{\n  \"dps\": [\n    {,}");
    assert_eq!((error.place.as_str(), error.hint), ("line 3, column 6", None));
    let error = refused(r#"{"result":{"model":"{\"services\":[}"}}"#);
    assert_eq!(error.place, "result.model: line 1, column 14 of the JSON text in it");
}

#[test]
fn wrong_models_are_refused_with_their_place() {
    for (text, place, part) in [
        ("", "", "empty"),
        ("  \n", "", "empty"),
        ("{}", "", "the object is empty"),
        (r#"{"dps":[]}"#, "", "no data points"),
        (r#"{"hello":1}"#, "", "hello"),
        (r#"{"result":{"code":1}}"#, "result", "code"),
        (r#"{"result":5}"#, "result", "a number"),
        (r#"{"success":false,"code":1010,"msg":"token invalid"}"#, "", "1010 \"token invalid\""),
        (r#"{"dps":[1]}"#, "dps[0]", "a number"),
        (r#"{"dps":[{"id":1}]}"#, "dps[0]", "no type"),
        (r#"{"dps":[{"id":0,"type":"bool"}]}"#, "dps[0].id", "0 is no DP id"),
        (r#"{"dps":[{"id":"x","type":"bool"}]}"#, "dps[0].id", "is no DP id"),
        (r#"{"dps":[{"id":1,"type":"float"}]}"#, "dps[0]", "`float`"),
        (r#"{"dps":[{"id":1,"type":"bool","access":"rx"}]}"#, "dps[0].access", "ro, rw and wo"),
        (r#"{"dps":[{"id":1,"type":"value","min":1.5}]}"#, "dps[0].min", "1.5 is no whole number"),
        (r#"{"dps":[{"id":1,"type":"value","min":5,"max":4}]}"#, "dps[0]", "above"),
        (r#"{"dps":[{"id":1,"type":"value","scale":19}]}"#, "dps[0]", "scale"),
        (r#"{"dps":[{"id":1,"type":"value","step":-1}]}"#, "dps[0]", "step"),
        (r#"{"dps":[{"id":1,"type":"enum","range":"a"}]}"#, "dps[0].range", "a string"),
        (r#"{"dps":[{"id":1,"type":"enum","range":["a",{}]}]}"#, "dps[0].range[1]", "an object"),
        (
            r#"{"dps":[{"id":1,"type":"bool"},{"id":1,"type":"raw"}]}"#,
            "dps[1]",
            "id 1 is there already, at dps[0]",
        ),
        (
            r#"{"dps":[{"id":1,"code":"a","type":"bool"},{"id":2,"code":"a","type":"raw"}]}"#,
            "dps[1]",
            "code `a` is there already",
        ),
        (
            r#"{"services":[{},{"properties":[{"abilityId":1,"code":"a","typeSpec":{"type":"value","max":"x"}}]}]}"#,
            "services[1].properties[0].typeSpec.max",
            "no whole number",
        ),
        (
            r#"{"functions":[{"code":"a","type":"Enum","values":"{\"range\":[}"}]}"#,
            "functions[0].values: line 1, column 11 of the JSON text in it",
            "no JSON",
        ),
        (r#"{"1":100,"2":true}"#, "1", "a number is no description"),
        (r#"[{"mapping":{}},{"mapping":{}}]"#, "", "2 devices or products"),
        ("a,b\n1,2\n", "line 1", "neither JSON nor a table"),
        ("DP ID,Identifier\n1,a\n", "line 1", "neither JSON nor a table"),
        ("DP ID,Data type\n1,bool\n", "line 1", "neither JSON nor a table"),
        (r#"[{"dps":[{"id":1,"code":"a","type":"bool","access":"rx"}]}]"#, "[0].dps[0].access", "no access"),
        ("Identifier,Data type\na,bool,x\n", "", "no DP id for a"),
        ("DP ID,Identifier,Data type\n1,a,bool\n2,b,valu\n", "line 3, column 3", "`valu`"),
        ("DP ID,Identifier,Data type\n0,a,bool\n", "line 2, column 1", "`0`"),
        ("DP ID,Identifier,Data type\n1,,bool\n", "line 2, column 2", "identifier is missing"),
        ("DP ID,Identifier,Data type\n1,a\n", "line 2, column 3", "data type is missing"),
        ("DP ID,Identifier,Data type\n1,a,bool\n\n1,b,bool\n", "line 4", "id 1 is there already, at line 2"),
        (
            "DP ID,Identifier,Data type,DP property\n1,a,value,Value range: few to many.\n",
            "line 2, column 4",
            "no range",
        ),
        (
            "DP ID,Identifier,Data type,Remarks,DP property\n1,a,value,,few to many\n",
            "line 2, column 5",
            "no limits",
        ),
        ("DP ID,Identifier,Data type,Bounds\n1,a,value,0 to 9\n", "line 2, column 4", "`Bounds`"),
        ("DP ID,Identifier,Data type,Min,Max\n1,a,value,few,9\n", "line 2, column 4", "no whole number"),
        ("DP ID,Identifier,Data type,Access\n1,a,value,sometimes\n", "line 2, column 4", "`sometimes`"),
    ] {
        let error = refused(text);
        assert_eq!(error.place, place, "{text}: {error}");
        assert!(error.message.contains(part), "{text}: {error}");
    }
    assert!(Product::read(b"\xff\xfeD\0P\0").unwrap_err().message.contains("UTF-8"));
}

#[test]
fn spreadsheets_table_variants() {
    let quoted = "\"DP ID\";\"Identifier\";\"Data type\";\"DP property\"\n\"7\";\"t\";\"value\";\"Value range: 0~9; Unit: /\"\n";
    holds(
        quoted.as_bytes(),
        &[r#"{"id":"7","code":"t","type":"value","access":"rw","min":0,"max":9,"scale":0,"step":1}"#],
    );
    // A first line that names the separator, as Excel takes it, counts as a line.
    for first in ["sep=;", "SEP=;\r", "\"sep=;\""] {
        let named = format!("{first}\n{quoted}");
        assert_eq!(Product::read(named.as_bytes()), Product::read(quoted.as_bytes()), "{first}");
        let error = Product::read(named.replace("\"value\"", "\"valu\"").as_bytes()).unwrap_err();
        assert_eq!(error.place, "line 3, column 3");
    }
    // The separator that it names counts, whatever else the header holds.
    for (first, separator) in [
        ("sep=,", ","),
        ("sep=|", "|"),
        ("\"sep=\t\"", "\t"),
        ("sep=\\t", "\t"),
        ("sep=", "\t"),
        ("sep=,,", ","),
    ] {
        let header = ["DP ID", "Identifier", "Data type", "DP property", "see a; b"].join(separator);
        let row = ["7", "t", "value", "\"Value range: 0~9; Unit: /\"", ""].join(separator);
        let table = format!("{first}\n{header}\n{row}\n");
        assert_eq!(Product::read(table.as_bytes()), Product::read(quoted.as_bytes()), "{table}");
    }
    // The parts of a description in any order.
    let turned =
        quoted.replace("Value range: 0~9; Unit: /", "Unit: kWh. Step: 2. Scale: 1. Value range: 0~8");
    holds(
        turned.as_bytes(),
        &[
            r#"{"id":"7","code":"t","type":"value","access":"rw","min":0,"max":8,"scale":1,"step":2,"unit":"kWh"}"#,
        ],
    );
}

#[test]
fn rubbish_is_refused_and_never_panics() {
    let seeds = [
        model!("thing-model.json"),
        model!("specification.json"),
        model!("device-schema-text.json"),
        model!("localtuya-dps.json"),
        model!("tedge-product.json"),
        model!("water-meter-table.csv"),
        model!("electricity-table.tsv"),
    ];
    let seed = 0x7079_6d6f_6465_6c00;
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..3_000 {
        let mut bytes = seeds[random.usize(..seeds.len())].to_vec();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..bytes.len());
            match random.u8(..3) {
                0 => bytes[at] = random.u8(..),
                1 => bytes.truncate(at.max(1)),
                _ => drop(bytes.splice(at..at, *b"-\"0")),
            }
        }
        if let Ok(product) = Product::read(&bytes) {
            let text = serde_json::to_string(&product).unwrap();
            let again = Product::read(text.as_bytes());
            assert_eq!(again.as_ref(), Ok(&product), "seed {seed}, round {round}: {text}");
        }
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(Product::read(deep.as_bytes()).is_err());
    let wrapped = format!("{}1{}", r#"{"data":"#.repeat(60), "}".repeat(60));
    assert!(Product::read(wrapped.as_bytes()).is_err());
}
