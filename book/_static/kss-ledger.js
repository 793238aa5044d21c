// Filters for the table of the ledger. The page is complete without them.
(() => {
  const table = document.querySelector("table.kss-ledger");
  if (!table) return;
  const rows = [...table.tBodies[0].rows];
  const form = document.createElement("form");
  form.className = "kss-filter";
  const selects = [["chapter", "Chapter"], ["status", "Status"], ["verdict", "Verdict"], ["kind", "Checked by"]].map(([key, text]) => {
    const label = document.createElement("label");
    const select = document.createElement("select");
    const values = [...new Set(rows.flatMap((row) => row.dataset[key].split("|")).filter(Boolean))];
    select.dataset.key = key;
    select.append(new Option("all", ""), ...values.map((value) => new Option(value.replaceAll("_", " "), value)));
    label.append(text, select);
    form.append(label);
    return select;
  });
  const clear = document.createElement("button");
  clear.type = "reset";
  clear.textContent = "Show all";
  const count = document.createElement("output");
  form.append(clear, count);
  const apply = () => {
    for (const row of rows) {
      row.hidden = selects.some(({ value, dataset }) => value && !row.dataset[dataset.key].split("|").includes(value));
    }
    count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} claims`;
  };
  form.addEventListener("change", apply);
  form.addEventListener("reset", () => setTimeout(apply));
  form.addEventListener("submit", (event) => event.preventDefault());
  table.parentElement.before(form);
  apply();
})();
