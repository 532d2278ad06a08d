// What the studio says, in German.
export default {
  "title": "Gapless Studio",
  "nav.label": "Ansichten",
  "nav.live": "Live",
  "nav.recordings": "Aufnahmen",
  "nav.rooms": "Räume",
  "nav.invite": "Einladen",
};
