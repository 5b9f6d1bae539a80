//! Nothing secret gets out.

use std::collections::BTreeMap;

use kube::{Api, api::ListParams};

use super::{history::Ask, world::World};

impl World {
    /// Everything secret that was shown or used: the bridge's token, codes, these numbers.
    pub fn secrets(&self, phones: &[&str]) -> Vec<String> {
        let mut secrets = vec![self.token.clone()];
        secrets.extend(phones.iter().map(|phone| phone.trim_start_matches('+').to_owned()));
        for name in self.history.names() {
            for code in self.history.of(&name).into_iter().filter_map(|seen| seen.instance?.qr()) {
                // The reference and the keys of a code are secret each for itself.
                secrets.extend(code.split(',').filter(|part| part.len() > 8).map(str::to_owned));
            }
        }
        secrets
    }

    /// Every test's last word: nothing that was shown or used may stand in a log, an event or a metric.
    pub async fn nothing_leaked(&self, phones: &[&str]) {
        let secrets = self.secrets(phones);
        let mut places =
            BTreeMap::from([("the operator's log", self.operator.log()), ("the bridge's log", self.bridge.log())]);
        for (place, url) in [
            ("the operator's metrics", &self.operator_address.admin),
            ("the bridge's metrics", &self.bridge_address.admin),
        ] {
            let text = reqwest::get(format!("{url}/metrics")).await.unwrap().text().await.unwrap();
            assert!(text.contains("# TYPE"), "{place} are empty");
            places.insert(place, text);
        }
        let events: Api<k8s_openapi::api::events::v1::Event> = Api::namespaced(self.client.clone(), &self.name);
        let events = events.list(&ListParams::default()).await.unwrap();
        places.insert("the Events", serde_json::to_string(&events.items).unwrap());
        for (place, text) in places {
            for secret in &secrets {
                assert!(!text.contains(secret.as_str()), "{place} contain a secret of {} characters", secret.len());
            }
        }
    }
}
