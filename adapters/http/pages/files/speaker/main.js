// The speaker's page: a link, a button, a recording.

import { byId, fill, h } from "../shared/dom.js";
import { loadTexts, t } from "../shared/text.js";

await loadTexts("shared", "speaker");
document.title = t("title");
fill(byId("page"), h("h1", {}, t("title")));
