// What all pages say, in English.
export default {
  "kind.received": "received",
  "kind.recovered": "recovered",
  "kind.restored": "restored",
  "kind.concealed": "concealed",
  "kind.silence": "missing",
  "kind.dtx": "silent on purpose",
  "action.cancel": "Cancel",
  "action.close": "Close",
  "action.copy": "Copy",
  "action.copied": "Copied",
  "action.retry": "Try again",
  "error.network": "The server cannot be reached.",
  "error.detail": "The server says: {detail}",
};
