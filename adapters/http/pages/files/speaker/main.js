// The speaker's page: a link, a button, a recording.

import { byId } from "../shared/dom.js";
import { loadTexts, t } from "../shared/text.js";
import { Guest } from "./guest.js";
import { invitationIn } from "./invitation.js";

await loadTexts("shared", "speaker");
document.title = t("title");
// another link in the same window is another visit
addEventListener("hashchange", () => location.reload());
await new Guest(byId("page"), invitationIn(location.hash)).start();
