//! The automatic client (mission S9, section 2): its lines to the letter, in both languages.

use crate::pattern::assert_like;
use crate::tools::Cluster;

#[test]
fn the_automatic_client_says_what_the_validation_reads() {
    let cluster = Cluster::start();
    let english = cluster.ask(&["test", "--wait", "60s"]);
    assert_like(
        english.fine(),
        "--- START OF CLIENT TESTS ---\n\
         \x20 -> Write OK: idx=<n>, term=<n>, leader=<o>\n\
         \x20 -> Write OK: idx=<n>, term=<n>, leader=<o>\n\
         \x20 -> Write OK: idx=<n>, term=<n>, leader=<o>\n\
         \x20 -> Read OK: 'initial_value_1' == 'initial_value_1' (Expected)\n\
         \x20 -> Read OK: 'initial_value_2' == 'initial_value_2' (Expected)\n\
         \x20 -> Read OK: 'initial_value_3' == 'initial_value_3' (Expected)\n\
         OVERWRITE TEST\n\
         \x20 -> Write OK: idx=<n>, term=<n>, leader=<o>\n\
         \x20 -> Read OK: 'UPDATED_VALUE' == 'UPDATED_VALUE' (Expected)\n\
         --- ALL TESTS COMPLETED SUCCESSFULLY ---\n",
    );
    let spanish = "--- INICIO DE PRUEBAS DE CLIENTE ---\n\
         \x20 -> Escritura OK: idx=<n>, mandato=<n>, lider=<o>\n\
         \x20 -> Escritura OK: idx=<n>, mandato=<n>, lider=<o>\n\
         \x20 -> Escritura OK: idx=<n>, mandato=<n>, lider=<o>\n\
         \x20 -> Lectura OK: 'valor_inicial_1' == 'valor_inicial_1' (Esperado)\n\
         \x20 -> Lectura OK: 'valor_inicial_2' == 'valor_inicial_2' (Esperado)\n\
         \x20 -> Lectura OK: 'valor_inicial_3' == 'valor_inicial_3' (Esperado)\n\
         PRUEBA DE SOBRESCRITURA\n\
         \x20 -> Escritura OK: idx=<n>, mandato=<n>, lider=<o>\n\
         \x20 -> Lectura OK: 'VALOR_ACTUALIZADO' == 'VALOR_ACTUALIZADO' (Esperado)\n\
         --- TODAS LAS PRUEBAS COMPLETADAS CON ÉXITO ---\n";
    assert_like(cluster.ask(&["--lang", "es", "test"]).fine(), spanish);
    let located = crate::tools::run(cluster.command(&["probar"]).env("LANG", "es_ES.UTF-8"));
    assert_like(located.fine(), spanish);
    let json = cluster.ask(&["-o", "json", "test"]);
    let write = |key: u8, value: &str| {
        format!(
            "{{\"op\":\"write\",\"key\":\"test_key_{key}\",\"value\":\"{value}\",\"index\":<n>,\
             \"term\":<n>,\"leader\":\"<seat>\",\"ok\":true}}\n"
        )
    };
    let read = |key: u8, value: &str| {
        format!(
            "{{\"op\":\"read\",\"key\":\"test_key_{key}\",\"value\":\"{value}\",\
             \"expected\":\"{value}\",\"term\":<n>,\"leader\":\"<seat>\",\"ok\":true}}\n"
        )
    };
    let initial = |n: u8| format!("initial_value_{n}");
    let mut golden: String = (1..=3).map(|n| write(n, &initial(n))).collect();
    golden.extend((1..=3).map(|n| read(n, &initial(n))));
    golden += &(write(1, "UPDATED_VALUE") + &read(1, "UPDATED_VALUE") + "{\"success\":true}\n");
    assert_like(json.fine(), &golden);
    // As the certificates of the automatic client's pod: a client, no admin.
    let certs = cluster.dir.join("certs").join("client");
    let said = crate::tools::run(cluster.command(&["test"]).env("BALSA_CERTS", certs));
    let last = said.fine().lines().last().unwrap_or_default();
    assert!(last.contains("SUCCESS"), "{said:?}");
    assert_eq!(said.fine().matches("leader=").count(), 4, "{said:?}");
    // Nobody answers: no SUCCESS anywhere, and its own status.
    assert_eq!(cluster.local(&["--down"]).code, 0);
    let none = cluster.ask(&["test", "--wait", "1s"]);
    assert_eq!(none.code, 6, "{none:?}");
    assert!(!format!("{none:?}").contains("SUCCESS"), "{none:?}");
}
