// Keeps what is captured and sends it; see ../speaker/spool.js for what it is asked.

addEventListener("message", ({ data: { asks } }) => {
  if (asks !== undefined) postMessage({ answers: asks, error: "spools are not there yet" });
});
