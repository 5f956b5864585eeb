// Before the first paint, so that nothing flashes.
(() => {
  try {
    const kept = localStorage.getItem("turnpike-theme");
    if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
  } catch { /* without storage, as the system has it */ }
})();
