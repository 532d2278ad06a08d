// What the studio says, in English.
export default {
  "title": "Gapless Studio",
  "nav.label": "Views",
  "nav.live": "Live",
  "nav.recordings": "Recordings",
  "nav.rooms": "Rooms",
  "nav.invite": "Invite",
};
