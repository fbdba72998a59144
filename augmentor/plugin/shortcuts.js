// Keys for the operators, in the grid and in the sample's window. FiftyOne has no key bindings for
// Python operators, so this script asks the App's own operator module to run them. Shift keeps
// clear of the App's own single letters. `prompts` opens the operator's form.
(function () {
  const keys = {
    A: { operator: "accept" },
    X: { operator: "reject", prompts: true },
    U: { operator: "undo" },
    L: { operator: "relabel", prompts: true },
    M: { operator: "more_like_this", prompts: true },
    T: { operator: "try_again" },
    B: { operator: "show_sources" },
  };
  if (window.__augmentorShortcuts) return; // the App may load a plugin's script again
  window.__augmentorShortcuts = keys;

  function isTyping(target) {
    return target instanceof Element && target.closest("input, textarea, select, [contenteditable]");
  }

  // The letter that the keyboard writes, whatever its layout; of a script without ours, the letter
  // that is printed there on a keyboard with both.
  function letter(event) {
    if (/^[a-z]$/i.test(event.key)) return event.key.toUpperCase();
    return /^\p{L}$/u.test(event.key) ? event.code.replace("Key", "") : "";
  }

  window.addEventListener("keydown", function (event) {
    const key = keys[letter(event)];
    const plainShift = event.shiftKey && !event.ctrlKey && !event.altKey && !event.metaKey;
    if (!key || !plainShift || event.repeat || isTyping(event.target)) return;
    event.preventDefault();
    const uri = "@augmentor/review/" + key.operator;
    if (key.prompts) {
      window.__foo__.executeOperator("@voxel51/operators/prompt_user_for_operation", {
        operator_uri: uri,
      });
    } else {
      window.__foo__.executeOperator(uri, {});
    }
  });
})();
