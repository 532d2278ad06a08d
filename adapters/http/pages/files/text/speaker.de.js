// What the speaker’s page says, in German.
export default {
  "title": "Gapless",
};
