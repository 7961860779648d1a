'use strict';

// Options as both classes take them.

function isMissing(value) {
  return value === undefined || value === null || value === '' || Number.isNaN(value);
}

/** Throws unless all of them are there. */
function required(options, names) {
  const missing = names.filter((name) => isMissing(options[name]));
  if (missing.length > 0) {
    const noun = missing.length === 1 ? 'option' : 'options';
    throw new Error(`Missing required ${noun}: ${missing.join(', ')}`);
  }
}

/** The defaults, with a user's properties in front of them. */
function overlaid(defaults, properties) {
  const all = { ...defaults };
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value !== undefined) {
      all[name] = value;
    }
  }
  return all;
}

/** A whole number from 1 on; the default for what is falsy. */
function count(value, fallback) {
  return Math.min(Math.max(1, Math.trunc(Number(value) || fallback)), 0x7fffffff);
}

module.exports = { count, isMissing, overlaid, required };
