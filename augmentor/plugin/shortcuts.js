// Keys for the operators, in the grid and in the sample's window. FiftyOne has no key bindings for
// Python operators, so this script asks the App's own operator module to run them. Shift keeps
// clear of the App's own single letters. `prompts` opens the operator's form.
(function () {
  const keys = {
    KeyA: { operator: "accept" },
    KeyX: { operator: "reject", prompts: true },
    KeyU: { operator: "undo" },
    KeyL: { operator: "relabel", prompts: true },
    KeyM: { operator: "more_like_this", prompts: true },
    KeyT: { operator: "try_again" },
    KeyB: { operator: "show_sources" },
  };
  if (window.__augmentorShortcuts) return; // the App may load a plugin's script again
  window.__augmentorShortcuts = keys;

  function isTyping(target) {
    return target instanceof Element && target.closest("input, textarea, select, [contenteditable]");
  }

  window.addEventListener("keydown", function (event) {
    const key = keys[event.code];
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
