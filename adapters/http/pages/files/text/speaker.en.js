// What the speaker’s page says, in English.
export default {
  "title": "Gapless",
};
