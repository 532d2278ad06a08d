// What all pages say, in German.
export default {
  "kind.received": "empfangen",
  "kind.recovered": "wiedergewonnen",
  "kind.restored": "nachgereicht",
  "kind.concealed": "überbrückt",
  "kind.silence": "fehlt",
  "kind.dtx": "absichtlich still",
  "action.cancel": "Abbrechen",
  "action.close": "Schließen",
  "action.copy": "Kopieren",
  "action.copied": "Kopiert",
  "action.retry": "Noch einmal",
  "error.network": "Der Server ist nicht erreichbar.",
  "error.detail": "Der Server sagt: {detail}",
};
